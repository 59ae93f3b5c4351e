"""What a forward pass costs, between and beyond the shapes that were measured.

numpy only: whoever chooses a tree asks it, whether or not the model runs in its process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike


class PassCost(Protocol):
    """A measured pass; `CostPoint` and the messages of that name have this shape."""

    @property
    def rows(self) -> int:
        """Rows in the pass; the prompt's tokens where the pass is a whole prompt."""

    @property
    def prefix_tokens(self) -> int:
        """Prompt tokens already in place; 0 = the pass is a whole prompt."""

    @property
    def ms(self) -> float:
        """Median duration, milliseconds."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """Measured time of one pass.

    Attributes:
        rows: rows in the pass, R; the prompt's tokens where the pass is a whole prompt.
        prefix_tokens: prompt tokens already in place, P; 0 = the pass is a whole prompt.
        ms: median duration of the forward, milliseconds.
    """

    rows: int
    prefix_tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class _Curve:
    """Milliseconds by rows: never falling, linear between its knots and above the last one.

    Attributes:
        rows: ascending.  Shape (k,), k >= 1.
        ms: shape (k,).
    """

    rows: np.ndarray
    ms: np.ndarray

    @classmethod
    def fit(cls, measured: dict[int, float]) -> _Curve:
        """Join measured points; noise that would let more rows cost less is averaged out."""
        rows = np.array(sorted(measured), np.float64)
        return cls(rows, _never_falling(np.array([measured[int(row)] for row in rows])))

    def at(self, rows: ArrayLike) -> np.ndarray:
        """Return milliseconds; below the first knot its own.  Shape of `rows`."""
        wanted = np.asarray(rows, np.float64)
        inside: np.ndarray = np.asarray(np.interp(wanted, self.rows, self.ms))
        if len(self.rows) == 1:
            return inside
        slope = float((self.ms[-1] - self.ms[-2]) / (self.rows[-1] - self.rows[-2]))
        beyond: np.ndarray = inside + slope * np.maximum(wanted - self.rows[-1], 0)
        return beyond


@dataclass(frozen=True, slots=True)
class CostTable:
    """Milliseconds of a model's passes on one machine.

    Attributes:
        prefixes: prefix lengths measured, ascending.  Shape (p,), p >= 1.
        curves: milliseconds by rows behind each of them.
        prompts: milliseconds of whole prompts by their length; None where none was measured.
    """

    prefixes: np.ndarray
    curves: tuple[_Curve, ...]
    prompts: _Curve | None

    @classmethod
    def from_points(cls, points: Iterable[PassCost]) -> CostTable | None:
        """Make a table of measured points, in any order.

        Args:
            points: of the engine's measurement, or as a service's GetInfo lists them.

        Returns:
            None when no pass over tree rows was measured.

        Raises:
            ValueError: a point has no rows, a negative prefix, or no positive time.
        """
        measured: dict[int, dict[int, float]] = {}
        for point in points:
            if point.rows < 1 or point.prefix_tokens < 0 or not 0 < point.ms < np.inf:
                raise ValueError(f"no cost of a pass: {point}")
            measured.setdefault(int(point.prefix_tokens), {})[int(point.rows)] = float(point.ms)
        prompts = measured.pop(0, None)
        if not measured:
            return None
        prefixes = sorted(measured)
        return cls(
            np.array(prefixes, np.float64),
            tuple(_Curve.fit(measured[prefix]) for prefix in prefixes),
            None if prompts is None else _Curve.fit(prompts),
        )

    def ms(self, rows: ArrayLike, prefix_tokens: int) -> np.ndarray:
        """Return what passes over tree rows cost behind a prompt of one length.

        Linear between what was measured and above it; below the smallest shape its own cost.  Never
        falls with the rows.

        Args:
            rows: any shape.
            prefix_tokens: P.

        Returns:
            Milliseconds, of the shape of `rows`, float64.
        """
        return self._behind(prefix_tokens).at(rows)

    def prompt_ms(self, tokens: int) -> float | None:
        """Return what a whole prompt costs with nothing in place, milliseconds.

        Args:
            tokens: P.

        Returns:
            None when no prompt was measured.
        """
        return None if self.prompts is None else float(self.prompts.at(tokens))

    def _behind(self, prefix_tokens: int) -> _Curve:
        """The curve behind a prefix of any length."""
        last = len(self.prefixes) - 1
        if not last or prefix_tokens <= self.prefixes[0]:
            return self.curves[0]
        above = min(int(np.searchsorted(self.prefixes, prefix_tokens)), last)
        low, high = self.curves[above - 1], self.curves[above]
        span = self.prefixes[above] - self.prefixes[above - 1]
        share = (prefix_tokens - self.prefixes[above - 1]) / span
        rows = np.union1d(low.rows, high.rows)
        start, rise = low.at(rows), high.at(rows) - low.at(rows)
        if share <= 1:
            return _Curve(rows, start + share * rise)
        # Beyond the longest prefix noise must neither make passes cheaper nor bend the curve down.
        further = high.at(rows) + (share - 1) * np.maximum(rise, 0)
        return _Curve(rows, np.maximum.accumulate(further))


def _never_falling(values: np.ndarray) -> np.ndarray:
    """Return the closest never falling values in the sense of least squares.

    Each is the largest over all beginnings of the smallest over all ends of the mean between.

    Args:
        values: shape (k,).

    Returns:
        Shape (k,).
    """
    count = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first, end = np.arange(count)[:, None], np.arange(1, count + 1)[None]
    means = np.where(end > first, (sums[end] - sums[first]) / np.maximum(end - first, 1), np.inf)
    smallest_from = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    return np.array([smallest_from[: k + 1, k].max() for k in range(count)])
