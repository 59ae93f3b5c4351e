"""What lies in drafters/<name>/: a description with a kind, and the files of that kind.

Kinds are open: this package knows the one that is a model and hands the others on as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specbeam.bundle.checkpoint import model_files, read_checkpoint
from specbeam.bundle.manifest import BundleError

DESCRIPTION = "drafter.json"
MODEL = "model"


def read_description(directory: Path) -> dict[str, Any]:
    """Read drafter.json.

    Returns:
        Its values; "kind" is among them.

    Raises:
        BundleError: it is missing or names no kind.
    """
    file = directory / DESCRIPTION
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(description["kind"], str) or not description["kind"]:
            raise TypeError("kind is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError([f"{file} cannot be read: {error}"]) from error
    found: dict[str, Any] = description
    return found


def drafter_files(directory: Path) -> dict[str, Path]:
    """Return the files that make up a drafter by their names below its folder.

    A folder without a description is a model.  Of a model only the files that are served are taken,
    of any other kind all.

    Raises:
        BundleError: it is neither a model nor a described drafter.
    """
    described = (directory / DESCRIPTION).is_file()
    if described and read_description(directory)["kind"] != MODEL:
        found = sorted(file for file in directory.rglob("*") if file.is_file())
        return {file.relative_to(directory).as_posix(): file for file in found}
    read_checkpoint(directory)
    own = [directory / DESCRIPTION] if described else []
    return {file.name: file for file in [*model_files(directory), *own]}


def model_description() -> str:
    """Return the text of drafter.json for a model that comes without one."""
    return json.dumps({"kind": MODEL}) + "\n"
