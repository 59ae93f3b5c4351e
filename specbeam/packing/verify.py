"""Everything that can be wrong with a bundle on disk, found without loading a weight."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from specbeam.bundle import BundleError, Manifest, PromptTemplate
from specbeam.bundle.checkpoint import adapter_files, read_checkpoint
from specbeam.bundle.checks import consistency_problems, file_problems
from specbeam.bundle.digests import Progress, digest_of, no_progress
from specbeam.bundle.drafters import DESCRIPTION, MODEL, read_description
from specbeam.catalog import CatalogError, ItemTrie
from specbeam.packing.tables import read_rows

_MANIFEST = "manifest.json"
_Part = TypeVar("_Part")


def find_problems(directory: Path, progress: Progress = no_progress) -> list[str]:
    """Return every problem of a bundle directory; none if it can be served.

    Digests of all files, the catalogue's own hash, and whether manifest, prompt, catalogue, item
    table and checkpoints agree on tokens and vocabulary.

    Args:
        directory: the bundle.
        progress: told about every chunk digested.
    """
    problems: list[str] = []
    manifest = _part(problems, lambda: _read_manifest(directory))
    if manifest is None:
        return problems
    problems += file_problems(directory, manifest, verify=True, checkpoints=True, progress=progress)
    problems += _unlisted(directory, manifest)
    template = _part(problems, lambda: _read_template(directory))
    trie = _part(problems, lambda: ItemTrie.load(directory / "catalog.idx"))
    if template is not None and trie is not None:
        problems += consistency_problems(manifest, template, trie)
    problems += _model_problems(directory, manifest)
    if trie is not None:
        problems += _item_problems(directory / "catalog.parquet", trie)
    return list(dict.fromkeys(problems))


def _part(problems: list[str], read: Callable[[], _Part]) -> _Part | None:
    """Return what `read` returns; what it raises becomes problems."""
    try:
        return read()
    except (BundleError, CatalogError) as error:
        problems += error.problems
    except (OSError, ValueError) as error:
        problems.append(str(error))
    return None


def _read_manifest(directory: Path) -> Manifest:
    file = directory / _MANIFEST
    if not file.is_file():
        raise BundleError([f"{directory} is not a bundle: {_MANIFEST} is missing"])
    return Manifest.from_json(file.read_text(encoding="utf-8"), directory)


def _read_template(directory: Path) -> PromptTemplate:
    return PromptTemplate.from_json((directory / "prompt.json").read_text(encoding="utf-8"))


def _unlisted(directory: Path, manifest: Manifest) -> list[str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    names = [file.relative_to(directory).as_posix() for file in files]
    known = {*manifest.contents, _MANIFEST}
    return [f"{name} is not listed in the manifest" for name in names if name not in known]


def _model_problems(directory: Path, manifest: Manifest) -> list[str]:
    problems: list[str] = []
    folders = ["target", *_drafter_folders(directory, manifest, problems)]
    for folder in folders:
        checkpoint = _part(problems, lambda folder=folder: read_checkpoint(directory / folder))  # type: ignore[misc]
        if checkpoint is not None and checkpoint.vocab_size != manifest.vocab_size:
            problems.append(
                f"{folder}: a vocabulary of {checkpoint.vocab_size:,} tokens, the manifest says "
                f"{manifest.vocab_size:,}"
            )
    if any(name.startswith("target/adapter/") for name in manifest.contents):
        _part(problems, lambda: adapter_files(directory / "target" / "adapter"))
    if digest_of(manifest.contents, "target/") != manifest.fingerprints.model:
        problems.append("target/ is not the model the manifest names")
    return problems


def _drafter_folders(directory: Path, manifest: Manifest, problems: list[str]) -> list[str]:
    """Return the folders of drafters that are models; look at the descriptions of all."""
    models = []
    for name in manifest.drafters:
        folder = f"drafters/{name}"
        if f"{folder}/{DESCRIPTION}" not in manifest.contents:
            problems.append(f"{folder}/{DESCRIPTION} is not listed in the manifest")
        description = _part(problems, lambda folder=folder: read_description(directory / folder))  # type: ignore[misc]
        if description is None:
            continue
        if description["kind"] == MODEL:
            models.append(folder)
        if description.get("catalog", manifest.fingerprints.catalog) != (
            manifest.fingerprints.catalog
        ):
            problems.append(f"{folder} belongs to another catalogue: add the drafter again")
    return models


def _item_problems(file: Path, trie: ItemTrie) -> list[str]:
    """Compare the item table with the catalogue, where pyarrow can read it."""
    if not file.is_file() or importlib.util.find_spec("pyarrow") is None:
        return []
    problems: list[str] = []
    rows = _part(problems, lambda: read_rows(file, "item_id", "title", problems))
    unknown = int((trie.index_of(list(rows or {})) < 0).sum())
    if unknown:
        problems.append(f"{unknown:,} items are not in the catalogue")
    return [f"{file.name}: {problem}" for problem in problems]
