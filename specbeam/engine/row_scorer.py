"""Tree rows of one KV slot and the log-probabilities they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.expansion import NO_LAWS, ScoredLevel, Verified
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.tree import related
from specbeam.engine.rows import TreeRows
from specbeam.engine.search_model import SearchModel


class RowScorer:
    """Runs tree rows on a slot and keeps the log-probabilities of their children by trie level.

    Shared by the target's search and the model drafter: both need "a row for these nodes" and then
    the scores of their children.
    """

    def __init__(
        self,
        model: SearchModel,
        leaf_filter: LeafFilter | None,
        selection: Selection = BY_SCORE,
    ) -> None:
        """Lease a slot.

        Raises:
            NoFreeSlotError: none is free.
            ValueError: the selection draws items and scores are no law over items.
        """
        self._runner, self._head, self._expansion = model.runner, model.head, model.expansion
        self.allowed = model.expansion.allow(leaf_filter, selection)
        self._rows = TreeRows(model.expansion.trie, model.runner.config.max_rows)
        self._slot: int | None = model.runner.pool.acquire()
        self._prompt_tokens = 0
        self._root_hidden: torch.Tensor | None = None
        self.scored: dict[int, ScoredLevel[Any]] = {}

    @property
    def room(self) -> int:
        """Rows that still fit."""
        return self._rows.capacity - len(self._rows)

    def close(self) -> None:
        """Give the slot back; may be called twice."""
        if self._slot is not None:
            self._runner.pool.release(self._slot)
            self._slot = None

    def _leased(self) -> int:
        if self._slot is None:
            raise RuntimeError("the session is closed")
        return self._slot

    @property
    def root_hidden(self) -> torch.Tensor:
        """Hidden state after the prompt's last token.  Shape (1, hidden)."""
        if self._root_hidden is None:
            raise RuntimeError("the prompt was not run yet")
        return self._root_hidden

    def prefill(
        self, prompt: np.ndarray, wanted: dict[int, np.ndarray] | None = None, held: int = 0
    ) -> int:
        """Run the prompt, and rows behind it in the same forward; then the root is scored too.

        Args:
            prompt: vocabulary ids.  Shape (P,).
            wanted: as for `add_rows`; None = the prompt alone.
            held: leading tokens of the prompt that the slot holds already, below P.

        Returns:
            Tree rows run.
        """
        new, slot = self._rows.append(wanted or {}), self._leased()
        self._check_room()
        if len(new):
            positions = new.levels + (len(prompt) - 1)
            hidden = self._runner.prefill_with_rows(
                slot, prompt, new.tokens, positions, new.sees, held
            )
        else:
            hidden = self._runner.prefill(slot, prompt, held)
        self._prompt_tokens, self._root_hidden = len(prompt), hidden[:1]
        self._score({0: np.zeros(1, np.int64), **new.by_level}, hidden)
        return len(new)

    def alive(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Tell which nodes the filter leaves something below.  Shape (n,), bool."""
        return self._expansion.alive(level, nodes, self.allowed)

    def needs_row(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Tell which nodes are not free.  Shape (n,), bool."""
        return self._expansion.needs_row(level, nodes, self.allowed)

    def add_rows(self, wanted: dict[int, np.ndarray]) -> int:
        """Run one forward over the nodes (and ancestors) that have no row yet.

        Args:
            wanted: distinct nodes that need a row, by level 1 .. L - 1, in any order.

        Returns:
            Rows run; 0 means no forward was needed.
        """
        new = self._rows.append(wanted)
        if not len(new):
            return 0
        self._check_room()
        prompt = self._prompt_tokens
        positions = new.levels + (prompt - 1)
        hidden = self._runner.forward_rows(self._leased(), prompt, new.tokens, positions, new.sees)
        self._score(new.by_level, hidden)
        return len(new)

    def _check_room(self) -> None:
        if len(self._rows) > self._rows.capacity:
            raise AssertionError(f"{len(self._rows)} rows exceed the slot's {self._rows.capacity}")

    def _score(self, by_level: dict[int, np.ndarray], hidden: torch.Tensor) -> None:
        groups = [(level, len(nodes)) for level, nodes in by_level.items()]
        for (level, nodes), scores in zip(
            by_level.items(), self._head.scores(groups, hidden), strict=True
        ):
            added = self._expansion.score(level, nodes, scores, self.allowed)
            self.scored[level] = self._expansion.merge(self.scored.get(level), added)

    def logprobs_of(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the child log-probabilities of scored or free nodes.  Shape (n, C_d), float64."""
        found: np.ndarray = self._expansion.logprobs_of(
            level, nodes, self.scored.get(level), self.allowed
        )
        return found

    def verify(
        self, beams: Beams, width: int, report: int = 0, laws: DraftLaws = NO_LAWS
    ) -> Verified:
        """Decide as many levels below `beams` as the rows allow; see `Expansion.verify`."""
        return self._expansion.verify(beams, self.scored, width, self.allowed, report, laws)

    def forget_unrelated(self, beams: Beams, *, below: bool = True) -> None:
        """Drop rows that cannot matter below `beams` and close the gaps in the slot.

        Args:
            beams: exact beams.
            below: keep rows of descendants; they may be of use, but take room.
        """
        before = len(self._rows)
        rows = self._rows.keep_related(beams, below=below)
        if len(rows) == before:
            return
        self._runner.pool.compact(self._leased(), self._prompt_tokens, rows)
        for level, known in list(self.scored.items()):
            kept = np.flatnonzero(related(self._expansion.trie, level, known.nodes, beams))
            if level and (not len(kept) or (level > beams.level and not below)):
                del self.scored[level]
            elif level:
                self.scored[level] = self._expansion.select(known, None, kept)
