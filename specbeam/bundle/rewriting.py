"""Bundles that are equal to another one but for a drafter.

Target, prompt and catalogue keep their fingerprints, so what is stored under them stays valid.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from specbeam.bundle.digests import Contents, copy_digested, copy_files, digest_file, no_progress
from specbeam.bundle.drafters import (
    DESCRIPTION,
    MODEL,
    drafter_files,
    model_description,
    read_description,
)
from specbeam.bundle.files import Bundle, load_bundle
from specbeam.bundle.manifest import BundleError, Manifest
from specbeam.bundle.replacing import put_in_place, read_report
from specbeam.bundle.writing import check_destination

_REPORT, _MANIFEST = "report.json", "manifest.json"


def with_drafter(
    bundle: Bundle,
    destination: Path | str,
    name: str,
    directory: Path,
    report: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle that has one more drafter, or a newer one of the same kind and name.

    Args:
        bundle: what to start from; it stays as it is unless it is the destination.
        destination: where; a bundle there is replaced whole or not at all.
        name: name of the drafter.
        directory: its files.
        report: figures for `report["drafters"][name]`; None = none, older ones go too.

    Raises:
        BundleError: the drafter is none, its name is taken by another kind, the bundle is damaged,
            or the destination exists and is no bundle.
    """
    files = drafter_files(directory)
    described = (directory / DESCRIPTION).is_file()
    kind = read_description(directory)["kind"] if described else MODEL
    check_drafter(bundle, destination, name, kind)
    known = bundle.manifest.drafters
    drafters = known if name in known else (*known, name)
    return _rewrite(bundle, Path(destination), name, files, drafters, report)


def without_drafter(bundle: Bundle, destination: Path | str, name: str) -> Bundle:
    """Write a bundle that lacks one drafter, and the figures about it.

    Args:
        bundle: what to start from; it stays as it is unless it is the destination.
        destination: where; a bundle there is replaced whole or not at all.
        name: name of the drafter.

    Raises:
        BundleError: there is no such drafter, the bundle is damaged, or the destination exists and
            is no bundle.
    """
    known = bundle.manifest.drafters
    if name not in known:
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise BundleError([f"the bundle has no drafter {name!r}; {there}"])
    drafters = tuple(other for other in known if other != name)
    return _rewrite(bundle, Path(destination), name, {}, drafters, None)


def check_drafter(bundle: Bundle, destination: Path | str, name: str, kind: str) -> None:
    """Check that `with_drafter` may add a drafter, before it is built.

    Args:
        bundle: what it is added to.
        destination: where the result goes.
        name: name of the drafter.
        kind: its kind.

    Raises:
        BundleError: the name is no identifier or is taken by another kind, or the destination
            exists and is no bundle.
    """
    check_destination(Path(destination))
    if not name.isidentifier():
        raise BundleError([f"a drafter cannot be called {name!r}"])
    if name in bundle.manifest.drafters:
        taken = read_description(bundle.drafter_dir(name))["kind"]
        if taken != kind:
            raise BundleError([f"{name!r} is the name of a drafter of kind {taken!r}"])


def _rewrite(
    bundle: Bundle,
    destination: Path,
    name: str,
    files: Mapping[str, Path],
    drafters: tuple[str, ...],
    report: Mapping[str, Any] | None,
) -> Bundle:
    """Write everything of `bundle` but one drafter, and `files` in its place."""
    check_destination(destination)
    destination = destination.resolve()
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    folder = f"drafters/{name}"
    try:
        contents = _carry_over(bundle, work, folder, linked=destination == bundle.path.resolve())
        added = {f"{folder}/{file}": source for file, source in files.items()}
        contents |= copy_files(added, work, no_progress)
        texts = {_REPORT: _report_text(bundle, name, report)}
        if files and f"{folder}/{DESCRIPTION}" not in contents:
            texts[f"{folder}/{DESCRIPTION}"] = model_description()
        for file, text in texts.items():
            (work / file).write_text(text, encoding="utf-8")
            contents[file] = ((work / file).stat().st_size, digest_file(work / file))
        _write_manifest(replace(bundle.manifest, drafters=drafters, contents=contents), work)
        shutil.copymode(bundle.path, work)
        load_bundle(work, checkpoints=False)  # nothing is put in place that cannot be opened
        put_in_place(work, destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_bundle(destination, verify=False)


def _carry_over(bundle: Bundle, work: Path, folder: str, *, linked: bool) -> Contents:
    """Bring every listed file but those of one folder to `work`.

    Args:
        bundle: where they are.
        work: an empty directory.
        folder: what is left out.
        linked: link files, for a bundle that goes away; copy where links are not possible.

    Returns:
        Size and digest by name.

    Raises:
        BundleError: files are missing or do not match their digests.
    """
    listed = bundle.manifest.contents
    contents = {n: e for n, e in listed.items() if not n.startswith(f"{folder}/")}
    problems = []
    for name, (_, digest) in contents.items():
        source, place = bundle.path / name, work / name
        try:
            if linked:
                _link(source, place)
            elif copy_digested(source, place, lambda size: None) != digest:
                problems.append(f"{name} does not match its digest (damaged or edited)")
        except FileNotFoundError:
            problems.append(f"{name} is missing")
    if problems:
        raise BundleError(problems)
    return contents


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


def _report_text(bundle: Bundle, name: str, report: Mapping[str, Any] | None) -> str:
    """Return report.json with the figures of one drafter set, or taken out."""
    figures = read_report(bundle.path / _REPORT)
    drafters = {key: value for key, value in figures.get("drafters", {}).items() if key != name}
    if report is not None:
        drafters[name] = dict(report)
    figures["drafters"] = drafters
    if not drafters:
        del figures["drafters"]
    return json.dumps(figures, indent=2, sort_keys=True) + "\n"


def _write_manifest(manifest: Manifest, work: Path) -> None:
    (work / _MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
