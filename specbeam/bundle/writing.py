"""Writing bundle directories."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from specbeam.bundle.checkpoint import adapter_files, model_files, read_checkpoint, tokenizer_files
from specbeam.bundle.digests import Contents, Progress, copy_files, digest_file, digest_of
from specbeam.bundle.digests import no_progress as tell_nobody
from specbeam.bundle.drafters import DESCRIPTION, drafter_files, model_description
from specbeam.bundle.files import Bundle, load_bundle
from specbeam.bundle.manifest import BundleError, Fingerprints, LevelTokens, Manifest
from specbeam.bundle.prompt import PromptTemplate
from specbeam.catalog import ItemTrie


@dataclass(frozen=True, slots=True)
class BundleParts:
    """What a bundle is made of.

    Attributes:
        name: bundle name used in requests.
        trie: catalogue over the target's vocabulary ids.
        template: prompt template.
        vocab_size: vocabulary size of all models.
        target_dir: Hugging Face checkpoint to copy (config.json, *.safetensors).
        levels: codebooks, one per level of the trie, or none.
        drafters: directories by drafter name: checkpoints, or what a drafter.json says they are.
        adapter_dir: LoRA adapter of the target, in peft's layout.
        tokenizer_dir: where the tokenizer files lie; the target's own folder may be one.
        items_file: catalog.parquet to copy (titles, topics).
        extra_files: further files to copy beside the manifest, such as a training curve.
        report: quality and training figures for report.json.
        default_beam_width: beams kept when a request does not say.
        exclude_history: default of the request's filter.
        score_kind: score convention.
    """

    name: str
    trie: ItemTrie
    template: PromptTemplate
    vocab_size: int
    target_dir: Path
    levels: tuple[LevelTokens, ...] = ()
    drafters: Mapping[str, Path] = field(default_factory=dict)
    adapter_dir: Path | None = None
    tokenizer_dir: Path | None = None
    items_file: Path | None = None
    extra_files: tuple[Path, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    default_beam_width: int = 20
    exclude_history: bool = True
    score_kind: str = "VOCAB"


def write_bundle(
    directory: Path | str, parts: BundleParts, progress: Progress = tell_nobody
) -> Bundle:
    """Write a bundle; the directory appears whole or not at all.

    Args:
        directory: destination; an existing bundle there is replaced.
        parts: what goes into it.
        progress: told about every chunk copied.

    Raises:
        BundleError: a part is missing or does not fit, or the destination exists and is no bundle.
    """
    destination = Path(directory)
    check_destination(destination)
    files = _files(parts)
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        contents = copy_files(files, work, progress)
        contents |= _write_own_files(parts, work)
        (work / "manifest.json").write_text(_manifest(parts, contents).to_json(), encoding="utf-8")
        load_bundle(work, verify=False)  # nothing is put in place that cannot be opened
        os.chmod(work, 0o755)  # mkdtemp is private; a bundle is read by other users' services
        _put_in_place(work, destination)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return load_bundle(destination, verify=False)


def _put_in_place(work: Path, destination: Path) -> None:
    """Move a finished bundle to its place; an older one is removed whole or not at all."""
    if not destination.exists():
        work.rename(destination)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    destination.rename(aside / destination.name)
    work.rename(destination)
    shutil.rmtree(aside, ignore_errors=True)


def check_destination(destination: Path) -> None:
    """Check that a bundle may be written to a path.

    Raises:
        BundleError: something else lies there.
    """
    occupied = destination.exists() and (not destination.is_dir() or any(destination.iterdir()))
    if occupied and not (destination / "manifest.json").is_file():
        raise BundleError([f"{destination} exists and is not a bundle; it is left alone"])


def _files(parts: BundleParts) -> dict[str, Path]:
    """Return the files to copy by their names in the bundle.

    Raises:
        BundleError: naming everything that is missing.
    """
    problems: list[str] = []
    folders: dict[str, list[Path]] = {}
    files: dict[str, Path] = {}
    try:
        read_checkpoint(parts.target_dir)
        folders["target"] = model_files(parts.target_dir)
    except BundleError as error:
        problems += error.problems
    for name, source in parts.drafters.items():
        try:
            found = drafter_files(source)
            files |= {f"drafters/{name}/{file}": place for file, place in found.items()}
        except BundleError as error:
            problems += error.problems
    try:
        if (adapter := _adapter_of(parts)) is not None:
            folders["target/adapter"] = adapter_files(adapter)
    except BundleError as error:
        problems += error.problems
    if parts.tokenizer_dir is not None:
        folders["tokenizer"] = tokenizer_files(parts.tokenizer_dir)
    if problems:
        raise BundleError(problems)
    files |= {f"{folder}/{file.name}": file for folder, some in folders.items() for file in some}
    files |= {file.name: file for file in parts.extra_files}
    return files if parts.items_file is None else files | {"catalog.parquet": parts.items_file}


def _adapter_of(parts: BundleParts) -> Path | None:
    """Return the adapter that was asked for, else the one that lies in the target's folder."""
    own = parts.target_dir / "adapter"
    return parts.adapter_dir or (own if own.is_dir() else None)


def _write_own_files(parts: BundleParts, work: Path) -> Contents:
    """Write what is not a copy, and return the sizes and digests."""
    parts.trie.save(work / "catalog.idx")
    texts = {
        "prompt.json": parts.template.to_json(),
        "report.json": json.dumps(dict(parts.report), indent=2, sort_keys=True) + "\n",
    }
    for name in parts.drafters:
        file = f"drafters/{name}/{DESCRIPTION}"
        if not (work / file).exists():
            texts[file] = model_description()
    for name, text in texts.items():
        (work / name).write_text(text, encoding="utf-8")
    files = {name: work / name for name in ("catalog.idx", *texts)}
    return {name: (file.stat().st_size, digest_file(file)) for name, file in files.items()}


def _manifest(parts: BundleParts, contents: Contents) -> Manifest:
    return Manifest(
        name=parts.name,
        fingerprints=Fingerprints(
            digest_of(contents, "target/"), parts.template.fingerprint, parts.trie.fingerprint
        ),
        item_length=parts.trie.depth,
        vocab_size=parts.vocab_size,
        levels=parts.levels,
        score_kind=parts.score_kind,
        default_beam_width=parts.default_beam_width,
        exclude_history=parts.exclude_history,
        drafters=tuple(parts.drafters),
        contents=contents,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
