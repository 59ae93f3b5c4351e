"""Writing and loading bundle directories."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from specbeam.bundle.manifest import BundleError, Fingerprints, LevelTokens, Manifest
from specbeam.bundle.prompt import PromptTemplate
from specbeam.catalog import CatalogError, ItemTrie

_CHUNK_BYTES = 1 << 20
_CHECKPOINTS = ("target/", "drafters/")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle; model weights stay on disk until an engine opens them.

    Attributes:
        path: the directory.
        manifest: parsed manifest.
        template: prompt template.
        trie: catalogue.
    """

    path: Path
    manifest: Manifest
    template: PromptTemplate
    trie: ItemTrie

    @property
    def target_dir(self) -> Path:
        """Hugging Face checkpoint of the target."""
        return self.path / "target"

    @property
    def items_file(self) -> Path:
        """Titles and topics; may be absent."""
        return self.path / "catalog.parquet"

    def drafter_dir(self, name: str) -> Path:
        """Checkpoint directory of a drafter."""
        return self.path / "drafters" / name

    @property
    def max_prompt_tokens(self) -> int:
        """Length of the longest prompt the template renders."""
        fixed = len(self.template.prefix) + len(self.template.suffix)
        return fixed + self.template.window.max_items * self.trie.depth


def write_bundle(
    directory: Path | str,
    *,
    name: str,
    trie: ItemTrie,
    template: PromptTemplate,
    levels: Sequence[LevelTokens],
    vocab_size: int,
    target_dir: Path,
    drafters: Mapping[str, Path] | None = None,
    items_file: Path | None = None,
    report: Mapping[str, Any] | None = None,
    default_beam_width: int = 20,
    exclude_history: bool = True,
    score_kind: str = "VOCAB",
) -> Bundle:
    """Write a bundle; the directory appears whole or not at all.

    Args:
        directory: destination; an existing bundle there is replaced.
        name: bundle name used in requests.
        trie: catalogue over the target's vocabulary ids.
        template: prompt template.
        levels: token layout of the code levels.
        vocab_size: vocabulary size of all models.
        target_dir: Hugging Face checkpoint (config.json, *.safetensors) to copy.
        drafters: checkpoint directories by drafter name; each gets a drafter.json of kind "model".
        items_file: catalog.parquet to copy (titles, topics).
        report: quality and training figures for report.json.
        default_beam_width: beams kept when a request does not say.
        exclude_history: default of the request's filter.
        score_kind: score convention.

    Raises:
        BundleError: a part is missing or the destination exists and is no bundle.
    """
    destination = Path(directory)
    _check_destination(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        _copy_checkpoint(target_dir, work / "target")
        for drafter, source in (drafters or {}).items():
            _copy_checkpoint(source, work / "drafters" / drafter)
            (work / "drafters" / drafter / "drafter.json").write_text('{"kind": "model"}\n')
        trie.save(work / "catalog.idx")
        (work / "prompt.json").write_text(template.to_json())
        if items_file is not None:
            shutil.copyfile(items_file, work / "catalog.parquet")
        (work / "report.json").write_text(json.dumps(report or {}, indent=2, sort_keys=True) + "\n")
        contents = _digest_files(work)
        manifest = Manifest(
            name=name,
            fingerprints=Fingerprints(
                _model_digest(contents), template.fingerprint, trie.fingerprint
            ),
            item_length=trie.depth,
            vocab_size=vocab_size,
            levels=tuple(levels),
            score_kind=score_kind,
            default_beam_width=default_beam_width,
            exclude_history=exclude_history,
            drafters=tuple(drafters or {}),
            contents=contents,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        (work / "manifest.json").write_text(manifest.to_json())
        os.chmod(work, 0o755)  # mkdtemp is private; a bundle is read by other users' services
        if destination.exists():
            shutil.rmtree(destination)
        work.rename(destination)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return load_bundle(destination, verify=False)


def load_bundle(directory: Path | str, *, verify: bool = True, checkpoints: bool = True) -> Bundle:
    """Load a bundle.

    Args:
        directory: the bundle directory.
        verify: compare every file with the digest in the manifest.
        checkpoints: verify those of the models too; not needed where no model is opened.

    Raises:
        BundleError: naming every problem found.
    """
    path = Path(directory)
    manifest = Manifest.from_json(_read_text(path, "manifest.json"))
    problems = _check_files(path, manifest, verify=verify, checkpoints=checkpoints)
    if problems:
        raise BundleError(problems)
    try:
        template = PromptTemplate.from_json(_read_text(path, "prompt.json"))
        trie = ItemTrie.load(path / "catalog.idx", verify=verify)
    except (CatalogError, ValueError) as error:
        raise BundleError([str(error)]) from error
    problems = _check_consistency(manifest, template, trie)
    if problems:
        raise BundleError(problems)
    return Bundle(path, manifest, template, trie)


def _read_text(path: Path, name: str) -> str:
    try:
        return (path / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BundleError([f"{path} is not a bundle: {name} is missing"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError([f"{path / name} cannot be read: {error}"]) from error


def _check_files(path: Path, manifest: Manifest, *, verify: bool, checkpoints: bool) -> list[str]:
    problems = []
    for name, (size, digest) in sorted(manifest.contents.items()):
        file = path / name
        digested = verify and (checkpoints or not name.startswith(_CHECKPOINTS))
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != size:
            problems.append(f"{name} has {file.stat().st_size} bytes, the manifest says {size}")
        elif digested and _digest_file(file) != digest:
            problems.append(f"{name} does not match its digest (damaged or edited)")
    required = {"target/config.json", "catalog.idx", "prompt.json"}
    problems += [
        f"{name} is not listed in the manifest"
        for name in sorted(required - set(manifest.contents))
    ]
    return problems


def _check_consistency(manifest: Manifest, template: PromptTemplate, trie: ItemTrie) -> list[str]:
    problems = []
    if trie.fingerprint != manifest.fingerprints.catalog:
        problems.append("catalog.idx is not the catalogue the manifest names")
    if template.fingerprint != manifest.fingerprints.prompt:
        problems.append("prompt.json is not the template the manifest names")
    if trie.depth != manifest.item_length:
        problems.append(f"items have {trie.depth} tokens, the manifest says {manifest.item_length}")
    largest = trie.largest_token()
    if max(largest, *template.prefix, *template.suffix) >= manifest.vocab_size:
        problems.append(f"tokens reach {largest}, the vocabulary has {manifest.vocab_size}")
    return problems


def _check_destination(destination: Path) -> None:
    occupied = destination.exists() and (not destination.is_dir() or any(destination.iterdir()))
    if occupied and not (destination / "manifest.json").is_file():
        raise BundleError([f"{destination} exists and is not a bundle; it is left alone"])


def _copy_checkpoint(source: Path, destination: Path) -> None:
    if not (source / "config.json").is_file() or not list(source.glob("*.safetensors")):
        raise BundleError(
            [f"{source} is not a checkpoint (config.json and *.safetensors expected)"]
        )
    destination.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}:
            shutil.copyfile(file, destination / file.name)


def _digest_files(root: Path) -> dict[str, tuple[int, str]]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(f.relative_to(root)): (f.stat().st_size, _digest_file(f)) for f in files}


def _digest_file(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _model_digest(contents: Mapping[str, tuple[int, str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, (size, file_digest) in sorted(contents.items()):
        if name.startswith("target/"):
            digest.update(f"{name}:{size}:{file_digest};".encode())
    return digest.hexdigest()
