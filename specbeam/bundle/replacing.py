"""Putting a changed bundle in the place of an older one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from specbeam.bundle.manifest import BundleError


def read_report(file: Path) -> dict[str, Any]:
    """Return the figures of report.json; none where there is no such file.

    Raises:
        BundleError: it is damaged.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BundleError([f"report.json cannot be read: {error}"]) from error
    if not isinstance(report, dict):
        raise BundleError(["report.json is not an object"])
    return report


def put_in_place(new: Path, path: Path) -> None:
    """Move a finished bundle to its place; an older one stays as `.old` until that is done."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
