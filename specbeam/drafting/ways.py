"""The ways to drive a target through one search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from specbeam.drafting.prices import SearchPrices


class Flow(Enum):
    """How the target is driven; names equal those of the API without their prefix."""

    PLAIN = "PLAIN"
    ROOT_FIRST = "ROOT_FIRST"
    ONE_PASS = "ONE_PASS"


@dataclass(frozen=True, slots=True)
class Way:
    """A flow and who drafts in it.

    Attributes:
        flow: how the target is driven.
        use_model: whether the model drafter is asked, which takes time.
    """

    flow: Flow
    use_model: bool = False


PLAIN = Way(Flow.PLAIN)


def ways_of(flows: Iterable[Flow], *, has_model: bool, has_others: bool) -> list[Way]:
    """Return the ways that somebody can draft for; the plain one first, if it is among the flows.

    Args:
        flows: flows that may be used.
        has_model: whether there is a model drafter.
        has_others: whether another drafter knows something.
    """
    allowed = set(flows)
    found = [PLAIN] if Flow.PLAIN in allowed else []
    for flow in (Flow.ROOT_FIRST, Flow.ONE_PASS):
        if flow in allowed:
            found += [Way(flow, True)] if has_model else []
            found += [Way(flow, False)] if has_others else []
    return found


def least_ms(way: Way, prices: SearchPrices, model_ms: float) -> float:
    """Return the least milliseconds that a way can take: every tree covers all with W rows a level.

    Args:
        way: the way.
        prices: of the search.
        model_ms: what asking the model drafter takes.
    """
    plain = prices.plain_ms()
    if way.flow is Flow.PLAIN:
        return float(plain[0])
    widths = prices.widths
    first = 2 if way.flow is Flow.ROOT_FIRST else 1
    rows = sum(widths[first : len(widths) - 1])
    asking = model_ms if way.use_model else 0.0
    if way.flow is Flow.ONE_PASS:
        return asking + float(prices.at(0, 0).tree_ms(np.array(rows)))
    root = float(prices.at(0, 0).tree_ms(np.array(0)))
    return asking + root + float(prices.at(1, widths[1]).tree_ms(np.array(widths[1] + rows)))
