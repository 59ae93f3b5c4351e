"""The rules of filters that the public API and the sessions share."""

from collections.abc import Container, Sequence
from typing import Final

from specbeam.runtime.errors import Violation

MAX_TAG_CLAUSES: Final = 64
MAX_TAGS_PER_CLAUSE: Final = 64
# The end of the year 9999, where datetimes of most languages end, too.
MAX_CREATED_MS: Final = 253_402_300_799_999
_SHOWN = 64


def clause_violations(clauses: Sequence[Sequence[str]], field: str) -> list[Violation]:
    """Return the rules that required tags break, whatever the catalogue.

    Args:
        clauses: The alternatives of each clause.
        field: Path of the repeated field in the request.
    """
    if len(clauses) > MAX_TAG_CLAUSES:
        return [Violation(field, f"has {len(clauses)} clauses, {MAX_TAG_CLAUSES} are allowed")]
    return [
        Violation(
            f"{field}[{at}].any_of",
            f"has {len(clause)} tags, 1 to {MAX_TAGS_PER_CLAUSE} are allowed",
        )
        for at, clause in enumerate(clauses)
        if not 1 <= len(clause) <= MAX_TAGS_PER_CLAUSE
    ]


def unknown_tag_violations(
    clauses: Sequence[Sequence[str]], known: Container[str], field: str
) -> list[Violation]:
    """Return a violation for each required tag that the catalogue has not got.

    Args:
        clauses: The alternatives of each clause, as many as allowed.
        known: Names of the catalogue's tags.
        field: Path of the repeated field in the request.
    """
    return [
        Violation(f"{field}[{at}].any_of[{place}]", f"the catalogue has no tag {name[:_SHOWN]!r}")
        for at, clause in enumerate(clauses)
        for place, name in enumerate(clause)
        if name not in known
    ]


def created_violations(created_after_ms: int, field: str) -> list[Violation]:
    """Return the rules that an oldest creation time breaks.

    Args:
        created_after_ms: Milliseconds since 1970-01-01 UTC.
        field: Path of the field in the request.
    """
    if 0 <= created_after_ms <= MAX_CREATED_MS:
        return []
    return [Violation(field, f"{created_after_ms} is not in 0 to {MAX_CREATED_MS}")]
