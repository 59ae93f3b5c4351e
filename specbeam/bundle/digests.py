"""Copying and digesting files, with progress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

# What is being done, bytes done so far, bytes in all.
Progress = Callable[[str, int, int], None]
Contents = dict[str, tuple[int, str]]

_CHUNK_BYTES = 1 << 22


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def digest_file(file: Path, advance: Callable[[int], None] | None = None) -> str:
    """Return the hex BLAKE2b-128 digest of a file.

    Args:
        file: what to read.
        advance: told the bytes of each chunk.
    """
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            if advance is not None:
                advance(len(chunk))
    return digest.hexdigest()


def copy_digested(source: Path, destination: Path, advance: Callable[[int], None]) -> str:
    """Copy a file and return its digest; it is read once.

    Args:
        source: what to copy; following links.
        destination: where; its folder is made.
        advance: told the bytes of each chunk.
    """
    digest = hashlib.blake2b(digest_size=16)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, destination.open("xb") as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            writing.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def copy_files(files: Mapping[str, Path], root: Path, progress: Progress) -> Contents:
    """Copy files to their names below `root`.

    Args:
        files: name below the root to the file to copy.
        root: an existing directory.
        progress: told about every chunk.

    Returns:
        Size and digest by name.
    """
    total, done = sum(file.stat().st_size for file in files.values()), 0
    contents: Contents = {}
    for name, source in files.items():

        def advance(size: int, name: str = name) -> None:
            nonlocal done
            done += size
            progress(f"copying {name}", done, total)

        digest = copy_digested(source, root / name, advance)
        contents[name] = ((root / name).stat().st_size, digest)
    return contents


def digest_of(contents: Mapping[str, tuple[int, str]], folder: str) -> str:
    """Return one hex digest of everything below a folder, such as "target/"."""
    digest = hashlib.blake2b(digest_size=16)
    for name, (size, file_digest) in sorted(contents.items()):
        if name.startswith(folder):
            digest.update(f"{name}:{size}:{file_digest};".encode())
    return digest.hexdigest()
