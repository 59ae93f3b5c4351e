"""A bundle like another one, with one drafter replaced or added."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specbeam.bundle import Bundle, BundleParts, write_bundle
from specbeam.training.errors import TrainingError
from specbeam.training.files import read_json

CURVE_FILE = "alignment.svg"
ENTRY = "alignment"
_OWN_FILES = ("catalog.idx", "catalog.parquet", "prompt.json", "report.json", CURVE_FILE)
_OWN_FOLDERS = ("target", "drafters", "tokenizer")


def check_copyable(bundle: Bundle) -> None:
    """Check that a new bundle would lack nothing of the old one.

    Raises:
        TrainingError: naming folders that would be lost.
    """
    folders = {name.partition("/")[0] for name in bundle.manifest.contents if "/" in name}
    strange = sorted(folders - set(_OWN_FOLDERS))
    if strange:
        raise TrainingError(
            f"bundle {bundle.manifest.name} has parts that would be lost: {', '.join(strange)}"
        )


def write_aligned_bundle(
    directory: Path,
    bundle: Bundle,
    drafter: str,
    model_dir: Path,
    curve_file: Path,
    entry: Mapping[str, Any],
) -> Bundle:
    """Write the new bundle; it appears whole or not at all.

    Args:
        directory: where.
        bundle: what everything else is taken from.
        drafter: name of the drafter that is replaced or added.
        model_dir: its checkpoint.
        curve_file: picture of its training.
        entry: the report's part about the alignment.

    Raises:
        BundleError: the parts do not fit, or something else lies at the destination.
    """
    manifest = bundle.manifest
    drafters = {name: bundle.drafter_dir(name) for name in manifest.drafters}
    others = [name for name in manifest.contents if "/" not in name and name not in _OWN_FILES]
    parts = BundleParts(
        name=manifest.name,
        trie=bundle.trie,
        template=bundle.template,
        vocab_size=manifest.vocab_size,
        target_dir=bundle.target_dir,
        levels=manifest.levels,
        drafters={**drafters, drafter: model_dir},
        adapter_dir=bundle.adapter_dir,
        tokenizer_dir=bundle.tokenizer_dir,
        items_file=bundle.items_file if bundle.items_file.is_file() else None,
        extra_files=(*(bundle.path / name for name in others), curve_file),
        report={**_old_report(bundle), ENTRY: dict(entry)},
        default_beam_width=manifest.default_beam_width,
        exclude_history=manifest.exclude_history,
        score_kind=manifest.score_kind,
    )
    return write_bundle(directory, parts)


def _old_report(bundle: Bundle) -> dict[str, Any]:
    path = bundle.path / "report.json"
    return dict(read_json(path)) if path.is_file() else {}
