"""Kinds of searches that are measured, and what is learned from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.drafting.coverage import Calibration
from specbeam.drafting.prices import Prices
from specbeam.drafting.registry import MODEL
from specbeam.engine import SearchModel

COLD, CACHED, ROOT_READY = "cold", "cached", "root ready"
PREFIXES = (COLD, CACHED, ROOT_READY)


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of search.

    Attributes:
        width: K = W.
        prefix: COLD: nothing is known of the prompt.  CACHED: the target holds the states of all
            but the last item: somebody comes back after one more event.  ROOT_READY: the root is
            settled before the clock starts.
        max_rows: row budget of a pass.
        sources: drafters that may be used; of several models the first one.
        selection: how beams are chosen; rules that draw search under TRIE.
        draft_width: prefixes drawn per level for the relaxed rule.
    """

    width: int
    prefix: str
    max_rows: int
    sources: tuple[str, ...]
    selection: Selection = BY_SCORE
    draft_width: int = 0

    def model(self, search: SearchModel) -> SearchModel:
        """Return a model under the score convention of these searches."""
        return search.under("TRIE") if self.selection.draws else search

    def held(self, prompt: np.ndarray, item_tokens: int) -> int:
        """Return the leading tokens of a prompt whose states the target has."""
        return 0 if self.prefix == COLD else max(len(prompt) - item_tokens, 0)


@dataclass(slots=True)
class Knowledge:
    """What is learned from search to search.

    Attributes:
        calibration: of coverage.
        prices: of the target.
        model_ms: what asking the model drafter takes, a running mean.
        learns: whether coverage is learned; prices always are.
    """

    prices: Prices
    calibration: Calibration = field(default_factory=Calibration)
    model_ms: float = 1.0
    learns: bool = True


def sources_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the sources of a bundle without the second names of its models."""
    return tuple(name for name in names if not name.startswith(f"{MODEL}:"))
