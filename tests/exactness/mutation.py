"""What a deliberate mistake is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One mistake: `old` becomes `new` in one file of the package."""

    name: str
    file: str
    old: str
    new: str
