"""What a session searches for: the checks and the conversion of `SearchSpec`."""

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from specbeam.catalog import LeafSpec
from specbeam.decoding.selection import MAX_TEMPERATURE, RULE_NAMES, Selection
from specbeam.runtime.errors import Violation
from specbeam.runtime.filter_rules import (
    clause_violations,
    created_violations,
    unknown_tag_violations,
)
from specbeam.target.v1alpha1 import session_pb2

_FIELD = "open.search"
_RULES = {
    session_pb2.SELECTION_RULE_UNSPECIFIED: "TOP_K",
    **{session_pb2.SelectionRule.Value(f"SELECTION_RULE_{name}"): name for name in RULE_NAMES},
}


def width_violations(search: session_pb2.SearchSpec, *, max_beam_width: int) -> list[Violation]:
    """Return the rules a search breaks, whatever the catalogue."""
    width = search.beam_width
    if 1 <= width <= max_beam_width:
        return []
    return [Violation(f"{_FIELD}.beam_width", f"is {width}; 1 to {max_beam_width} are allowed")]


def selection_violations(search: session_pb2.SearchSpec) -> list[Violation]:
    """Return the rules the selection of a search breaks by itself."""
    asked, field, found = search.selection, f"{_FIELD}.selection", []
    if asked.rule not in _RULES:
        return [Violation(f"{field}.rule", f"is {asked.rule}, which is no rule")]
    if not 0 <= asked.temperature <= MAX_TEMPERATURE:  # nor is not-a-number
        text = f"is {asked.temperature:g}; above 0 to {MAX_TEMPERATURE:g} is allowed, 0 = 1"
        found.append(Violation(f"{field}.temperature", text))
    if _RULES[asked.rule] == "TOP_K":
        text = "only where a rule draws items"
        if asked.temperature not in (0.0, 1.0) and not found:
            found.append(Violation(f"{field}.temperature", text))
        if asked.top_k:
            found.append(Violation(f"{field}.top_k", text))
    return found


def to_selection(search: session_pb2.SearchSpec) -> Selection:
    """Return the selection of a search that was checked."""
    asked = search.selection
    return Selection(_RULES[asked.rule], asked.seed, asked.temperature or 1.0, asked.top_k)


def from_selection(selection: Selection) -> session_pb2.Selection:
    """Return the message of a selection."""
    return session_pb2.Selection(
        rule=session_pb2.SelectionRule.Value(f"SELECTION_RULE_{selection.rule}"),
        seed=selection.seed,
        temperature=selection.temperature,
        top_k=selection.top_k,
    )


def filter_violations(
    search: session_pb2.SearchSpec, *, num_leaves: int, tags: Container[str]
) -> list[Violation]:
    """Return the rules the filter of a search breaks.

    Args:
        search: As received.
        num_leaves: Leaves of the catalogue.
        tags: Names of its tags.
    """
    found = _leaf_violations(search.excluded_leaves, num_leaves, "excluded_leaves")
    found += _leaf_violations(search.allowed_leaves.leaves, num_leaves, "allowed_leaves.leaves")
    clauses, field = _clauses(search), f"{_FIELD}.required_tags"
    wrong = clause_violations(clauses, field)
    found += wrong or unknown_tag_violations(clauses, tags, field)
    if search.HasField("created_after_ms"):
        found += created_violations(search.created_after_ms, f"{_FIELD}.created_after_ms")
    return found


def to_leaf_spec(search: session_pb2.SearchSpec) -> LeafSpec:
    """Return the filter of a search that was checked."""
    allowed = _to_array(search.allowed_leaves.leaves) if search.HasField("allowed_leaves") else None
    moment = search.created_after_ms if search.HasField("created_after_ms") else None
    return LeafSpec(_to_array(search.excluded_leaves), allowed, _clauses(search), moment)


def from_leaf_spec(
    leaves: LeafSpec,
    *,
    beam_width: int,
    max_rows: int = 0,
    selection: Selection | None = None,
) -> session_pb2.SearchSpec:
    """Return the message of a search.

    Args:
        leaves: Its filter.
        beam_width: W.
        max_rows: Row budget of one pass; 0 = the server's limit.
        selection: How beams are chosen; None = by score.
    """
    allowed = leaves.allowed_leaves
    return session_pb2.SearchSpec(
        beam_width=beam_width,
        excluded_leaves=leaves.excluded_leaves.tolist(),
        max_rows=max_rows,
        allowed_leaves=None if allowed is None else session_pb2.LeafSet(leaves=allowed.tolist()),
        required_tags=[session_pb2.TagClause(any_of=clause) for clause in leaves.required_tags],
        created_after_ms=leaves.created_after_ms,
        selection=None if selection is None else from_selection(selection),
    )


def _clauses(search: session_pb2.SearchSpec) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(clause.any_of) for clause in search.required_tags)


def _to_array(values: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64, len(values))


def _leaf_violations(values: Sequence[int], num_leaves: int, name: str) -> list[Violation]:
    leaves, field = _to_array(values), f"{_FIELD}.{name}"
    found = []
    if len(leaves) and int(leaves.max()) >= num_leaves:
        text = f"reach {int(leaves.max())}; the catalogue has {num_leaves} leaves"
        found.append(Violation(field, text))
    if (leaves[1:] <= leaves[:-1]).any():
        found.append(Violation(field, "must be sorted ascending without repetition"))
    return found
