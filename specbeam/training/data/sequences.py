"""Users' sequences from rows of (history, next item)."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class UserSequence:
    """What is known of one user, oldest first, built row by row.

    Attributes:
        items: item numbers.
        split: split number beside each item; items that are only in histories are train (0).
        contradictions: rows that do not fit the others; the longer sequence is kept.
        gaps: rows joined although items may be missing before their history.
    """

    items: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    contradictions: int = 0
    gaps: int = 0

    def add(self, history: Sequence[int], target: int, split: int, window: int) -> None:
        """Take in one row.

        A history usually ends where the sequence does, or reaches further back.  A row may also
        repeat what is known.  A history of `window` items is cut at its begin: such a row may come
        after interactions that no row has, and is joined where they overlap the most.

        Args:
            history: items before the target, oldest first.
            target: the next item.
            split: split number of the target.
            window: most items of any history.
        """
        known = self.items
        overlap = min(len(known), len(history))
        if known[len(known) - overlap :] == list(history[len(history) - overlap :]) and (
            history or not known
        ):
            self._prepend(history[: len(history) - overlap])
            self._append([target], split)
        elif [*history, target][-len(known) :] == known:
            self._prepend([*history, target][: -len(known)])
            self.split[-1] = split
        elif (place := self._find(history, target)) is not None:
            self.split[place] = split
        elif len(history) == window:
            self._append(history[self._joint(history) :], 0)
            self._append([target], split)
            self.gaps += 1
        else:
            self.contradictions += 1
            if len(history) + 1 > len(known):
                self.items = [*history, target]
                self.split = [*([0] * len(history)), split]

    def _prepend(self, items: Sequence[int]) -> None:
        self.items = [*items, *self.items]
        self.split = [*([0] * len(items)), *self.split]

    def _append(self, items: Sequence[int], split: int) -> None:
        self.items += items
        self.split += [split] * len(items)

    def _find(self, history: Sequence[int], target: int) -> int | None:
        """Return where the target already follows the history; None if nowhere."""
        size = len(history)
        places = range(size, len(self.items)) if size else range(min(1, len(self.items)))
        for place in places:
            before = self.items[place - size : place]
            if self.items[place] == target and before == list(history):
                return place
        return None

    def _joint(self, history: Sequence[int]) -> int:
        """Return how many items at the begin of the history are the end of the sequence."""
        for size in range(min(len(history), len(self.items)), 0, -1):
            if self.items[-size:] == list(history[:size]):
                return size
        return 0
