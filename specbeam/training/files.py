"""Directories and files that appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specbeam.training.errors import TrainingError


@contextmanager
def new_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that takes its place when the block succeeds.

    Args:
        path: the directory to make. Missing parents are created.
        overwrite: replace an existing directory instead of refusing.

    Raises:
        TrainingError: `path` exists and `overwrite` is false.
    """
    if path.exists() and not overwrite:
        raise TrainingError(f"{path} already exists; choose another path or pass --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        scratch.chmod(0o755)
        yield scratch
        if path.exists():
            discard_directory(path)
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def discard_directory(path: Path) -> None:
    """Remove a directory; killed half-way, it leaves a hidden name and never half of `path`."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    path.rename(scratch / path.name)
    shutil.rmtree(scratch, ignore_errors=True)


def replace_directory(new: Path, path: Path) -> None:
    """Move the directory `new` to `path`; an older one stays as `.old` until the move is done.

    For directories whose `.old` nobody else would use, such as checkpoints.
    """
    old = path.with_name(f"{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON through a temporary file and a rename."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def read_json(path: Path) -> Any:
    """Return the parsed content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
