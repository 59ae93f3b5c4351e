"""Adding figures to the report.json of a bundle that is already written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from specbeam.bundle.digests import digest_file
from specbeam.bundle.files import load_bundle
from specbeam.bundle.replacing import put_in_place, read_report

_REPORT, _MANIFEST = "report.json", "manifest.json"


def add_to_report(directory: Path | str, key: str, value: Mapping[str, Any]) -> None:
    """Set one entry of report.json, and the size and digest that the manifest has of it.

    Both files change together: a copy of the directory, its other files linked and not copied,
    takes the bundle's place.  Readers that have the old files open keep them.

    Args:
        directory: the bundle directory.
        key: entry of the report; replaced if there is one.
        value: JSON values.

    Raises:
        BundleError: not a bundle, or its report is damaged.
    """
    path = Path(directory)
    bundle = load_bundle(path, checkpoints=False)
    report = read_report(path / _REPORT)
    report[key] = dict(value)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.resolve().parent))
    try:
        _link_tree(path, work)
        text = json.dumps(report, indent=2, sort_keys=True) + "\n"
        (work / _REPORT).write_text(text, encoding="utf-8")
        entry = ((work / _REPORT).stat().st_size, digest_file(work / _REPORT))
        contents = {**bundle.manifest.contents, _REPORT: entry}
        manifest = replace(bundle.manifest, contents=contents)
        (work / _MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        shutil.copymode(path, work)
        load_bundle(work, checkpoints=False)  # nothing is put in place that cannot be opened
        put_in_place(work, path.resolve())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link_tree(source: Path, destination: Path) -> None:
    """Link all files but the two that are written anew; copy where links are not possible."""

    def link(one: str, other: str) -> str:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)
        return other

    ignored = shutil.ignore_patterns()

    def ignore(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == source
        return {_REPORT, _MANIFEST} & set(names) if top else ignored(folder, names)

    shutil.copytree(source, destination, dirs_exist_ok=True, copy_function=link, ignore=ignore)
