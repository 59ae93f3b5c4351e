"""What the chooser expected of the trees it chose, beside what became of them."""

from __future__ import annotations

from specbeam.client_debug import DebugRound, TreeEstimate
from specbeam.client_types import Recommendation
from specbeam.pictures.markup import Markup, element, number

HEADS = ("turn", "expected ms", "without a tree", "all exact beams drafted: expected, and so")


def expected_rows(answer: Recommendation) -> list[Markup]:
    """Return a table row for every tree that was chosen; none where trees were not chosen."""
    rounds = answer.debug.rounds if answer.debug is not None else ()
    return [
        _row(turn, one, one.estimate)
        for turn, one in enumerate(rounds, start=1)
        if one.estimate is not None
    ]


def _row(turn: int, one: DebugRound, estimate: TreeEstimate) -> Markup:
    levels = " · ".join(
        f"level {level}: {100 * share:.0f} %, {_came(one, level)}"
        for level, share in enumerate(estimate.coverage, start=one.base_level + 1)
    )
    return element(
        "tr",
        element("td", str(turn), _class="num"),
        element("td", number(estimate.ms, 1), _class="num"),
        element("td", number(estimate.plain_ms, 1), _class="num"),
        element("td", levels),
    )


def _came(one: DebugRound, level: int) -> str:
    if level < one.level:
        return "yes"
    return "no" if level == one.level else "not reached"
