"""What is wrong with the rows of a file, grouped by kind of mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

# Rows shown of each kind; fewer when many kinds share the screen.
SHOWN_ROWS = 5
SHOWN_ROWS_OF_MANY = 2
MANY_KINDS = 3


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    rows: npt.NDArray[np.int64]
    describe: Callable[[int], str]


@dataclass(slots=True)
class RowProblems:
    """Collects bad rows; a mistake made in a million rows is shown in a few of them.

    Attributes:
        label: name of the file.
        places: maps row numbers to places such as "log.csv:17".
    """

    label: str
    places: Callable[[Sequence[int]], list[str]]
    _kinds: list[_Kind] = field(default_factory=list)

    def add(
        self, name: str, rows: npt.NDArray[Any] | Sequence[int], describe: Callable[[int], str]
    ) -> None:
        """Note rows with one kind of mistake; no rows, no problem.

        Args:
            name: what the mistake is, for the line that counts the rows not shown.
            rows: row numbers, from 0.
            describe: what to say about one row.
        """
        if len(rows):
            self._kinds.append(_Kind(name, np.sort(np.asarray(rows, np.int64)), describe))

    def lines(self) -> list[str]:
        """Return the problems: some rows of each kind, then how many more there are."""
        shown = SHOWN_ROWS if len(self._kinds) <= MANY_KINDS else SHOWN_ROWS_OF_MANY
        picked = [row for kind in self._kinds for row in kind.rows[:shown].tolist()]
        place = dict(zip(picked, self.places(picked), strict=True)) if picked else {}
        result: list[str] = []
        for kind in self._kinds:
            result += [f"{place[row]}: {kind.describe(row)}" for row in kind.rows[:shown].tolist()]
            if len(kind.rows) > shown:
                hidden = len(kind.rows) - shown
                result.append(
                    f"{self.label}: {kind.name}: and {hidden:,} more row{'s' * (hidden > 1)}"
                )
        return result
