"""What the passes of one search cost now: the engine's table, put right by what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specbeam.decoding.costs import CostTable
from specbeam.drafting.choosing import PassPrices

# Weight of a new observation in a running mean.
_NEW = 0.1
# The table was measured alone: neighbours, other batches and throttling can change it this much.
_SCALES = (0.25, 8.0)


@dataclass(slots=True)
class Prices:
    """Prices of a target's passes, kept up to date by the searches themselves.

    A target under load makes every pass wait for others; that is a price of a pass, too, and
    favours few passes.  What is paid for rows rises with the scale, and favours few rows.

    Attributes:
        table: the engine's own measurement.
        scale: measured time over the table's, a running mean.
        turn_ms: what a turn costs beside its forward passes: waiting, choosing, the network.
    """

    table: CostTable
    scale: float = 1.0
    turn_ms: float = 0.5

    def observe(self, expected_ms: float, forward_ms: float, wall_ms: float) -> None:
        """Take in one turn.

        Args:
            expected_ms: of its passes by the table alone; 0 = unknown.
            forward_ms: inside its passes.
            wall_ms: from asking to the answer.
        """
        if expected_ms > 0 and forward_ms > 0:
            ratio = min(max(forward_ms / expected_ms, _SCALES[0]), _SCALES[1])
            self.scale += _NEW * (ratio - self.scale)
        self.turn_ms += _NEW * (max(wall_ms - forward_ms, 0.0) - self.turn_ms)

    def rows_ms(self, rows: np.ndarray | int, prefix_tokens: int) -> np.ndarray:
        """Return what passes over tree rows take, by the table alone; no rows, no pass."""
        counts = np.asarray(rows)
        ms: np.ndarray = np.where(
            counts > 0, self.table.ms(np.maximum(counts, 1), prefix_tokens), 0
        )
        return ms

    def prompt_ms(self, tokens: int, held: int, rows: np.ndarray | int = 0) -> np.ndarray:
        """Return what the prompt's pass takes, with tree rows behind it, by the table alone.

        Args:
            tokens: P.
            held: leading tokens that need not be run, below P.
            rows: tree rows in the same pass.
        """
        counts = np.asarray(rows)
        whole = self.table.prompt_ms(tokens)
        if held or whole is None:
            return self.table.ms(tokens - held + counts, max(held, 1))
        more = self.table.ms(counts + 1, tokens) - self.table.ms(1, tokens)
        found: np.ndarray = whole + more
        return found


@dataclass(frozen=True, slots=True)
class SearchPrices:
    """Prices in one search.

    Attributes:
        prices: of the target.
        prompt_tokens: P.
        widths: beams that each level 0 .. L holds at most.
        held: leading prompt tokens whose states the target has.
    """

    prices: Prices
    prompt_tokens: int
    widths: Sequence[int]
    held: int = 0
    _plain: list[np.ndarray] = field(default_factory=list)

    def at(self, base_level: int, own_rows: int) -> PassPrices:
        """Return the prices of the next pass.

        Args:
            base_level: level of the exact beams; 0 = the prompt is still to be run.
            own_rows: rows that the pass has whatever the tree.
        """
        prices, plain = self.prices, self.plain_ms()

        def tree_ms(rows: np.ndarray) -> np.ndarray:
            if base_level:
                ms = prices.rows_ms(rows, self.prompt_tokens + base_level)
            else:
                ms = prices.prompt_ms(self.prompt_tokens, self.held, rows)
            found: np.ndarray = prices.turn_ms + prices.scale * ms
            return found

        return PassPrices(tree_ms, plain, own_rows)

    def plain_ms(self) -> np.ndarray:
        """Return the time to the end from exact beams of each level, without trees, one turn each.

        Shape (L + 1,).
        """
        if not self._plain:
            depth, prices = len(self.widths) - 1, self.prices
            each = [float(prices.prompt_ms(self.prompt_tokens, self.held))]
            each += [
                float(prices.rows_ms(width, self.prompt_tokens + level))
                for level, width in enumerate(self.widths[1:depth], 1)
            ]
            rest = prices.scale * np.cumsum(np.array(each)[::-1])[::-1]
            self._plain.append(np.append(rest + prices.turn_ms, 0.0))
        return self._plain[0]

    def expected_ms(self, before: int, prompt_rows: int, rows: int) -> float:
        """Return what one pass should have taken by the table alone."""
        if before:
            return float(self.prices.rows_ms(rows, self.prompt_tokens + before))
        return float(
            self.prices.prompt_ms(self.prompt_tokens, self.prompt_tokens - prompt_rows, rows)
        )
