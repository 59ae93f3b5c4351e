"""One request's exact beam search on one KV slot, driven turn by turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import AnyExpansion, ScoredLevel, Verified, open_expansion
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.tree import CandidateTree, related, resolve_tree, widen_exhaustively
from specbeam.engine.head import LevelHead
from specbeam.engine.rows import TreeRows
from specbeam.engine.runner import ModelRunner


@dataclass(frozen=True, slots=True)
class SearchModel:
    """A model on its device with the catalogue it searches.

    Attributes:
        runner: the model.
        head: its LM head, cut for the catalogue and the score convention.
        expansion: the catalogue on the model's device.
    """

    runner: ModelRunner
    head: LevelHead
    expansion: AnyExpansion

    @classmethod
    def open(cls, runner: ModelRunner, expansion: AnyExpansion) -> SearchModel:
        """Join a model and a catalogue.

        Raises:
            ValueError: the catalogue has tokens the model has not.
        """
        return cls(runner, LevelHead(runner, expansion.trie, expansion.scoring), expansion)

    @classmethod
    def of(cls, runner: ModelRunner, trie: ItemTrie, scoring: Scoring) -> SearchModel:
        """Join a model, a catalogue and a score convention.

        Raises:
            ValueError: the catalogue has tokens the model has not.
        """
        return cls.open(runner, open_expansion(trie, runner.device, scoring))


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a session did.

    Attributes:
        beams: exact beams now.
        passes: forward passes run.
        rows: tree rows computed, beams' own rows included, prompt rows not.
        prompt_rows: prompt rows computed.
        accepted_levels: levels decided beyond one per pass.
        dropped_nodes: drafted nodes that were not usable.
    """

    beams: Beams
    passes: int = 0
    rows: int = 0
    prompt_rows: int = 0
    accepted_levels: int = 0
    dropped_nodes: int = 0

    def then(self, later: Turn) -> Turn:
        """Add up two consecutive turns."""
        return Turn(
            later.beams,
            self.passes + later.passes,
            self.rows + later.rows,
            self.prompt_rows + later.prompt_rows,
            self.accepted_levels + later.accepted_levels,
            self.dropped_nodes + later.dropped_nodes,
        )


class RowScorer:
    """Runs tree rows on a slot and keeps the log-probabilities of their children by trie level.

    Shared by the target's search and the model drafter: both need "a row for these nodes" and then
    the scores of their children.
    """

    def __init__(
        self,
        model: SearchModel,
        leaf_filter: LeafFilter | None,
    ) -> None:
        """Lease a slot.

        Raises:
            NoFreeSlotError: none is free.
        """
        self._runner, self._head, self._expansion = model.runner, model.head, model.expansion
        self.allowed = model.expansion.allow(leaf_filter)
        self._rows = TreeRows(model.expansion.trie, model.runner.config.max_rows)
        self._slot: int | None = model.runner.pool.acquire()
        self._prompt_tokens = 0
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

    def prefill(self, prompt: np.ndarray) -> None:
        """Run the prompt; afterwards the root (level 0) is scored."""
        hidden = self._runner.prefill(self._leased(), prompt)
        self._prompt_tokens = len(prompt)
        self._score({0: np.zeros(1, np.int64)}, hidden)

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
        if len(self._rows) > self._rows.capacity:
            raise AssertionError(f"{len(self._rows)} rows exceed the slot's {self._rows.capacity}")
        prompt = self._prompt_tokens
        positions = new.levels + (prompt - 1)
        hidden = self._runner.forward_rows(self._leased(), prompt, new.tokens, positions, new.sees)
        self._score(new.by_level, hidden)
        return len(new)

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

    def verify(self, beams: Beams, width: int) -> Verified:
        """Decide as many levels below `beams` as the rows allow; see `Expansion.verify`."""
        return self._expansion.verify(beams, self.scored, width, self.allowed)

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


class BeamSession:
    """The target's side: exact beams, advanced by plain steps or by verifying candidate trees.

    Winners come only from the trie expansion of the current exact beams, so nothing a drafter sends
    can change the answer.
    """

    def __init__(
        self,
        model: SearchModel,
        beam_width: int,
        leaf_filter: LeafFilter | None = None,
    ) -> None:
        """Lease a slot.

        Raises:
            NoFreeSlotError: none is free.
        """
        self._trie = model.expansion.trie
        self._width = beam_width
        self._scorer = RowScorer(model, leaf_filter)
        self.beams = Beams.root()

    @property
    def finished(self) -> bool:
        """Whether the last level is decided (or nothing is left alive)."""
        return self.beams.level == self._trie.depth or not len(self.beams)

    def close(self) -> None:
        """Give the slot back; may be called twice."""
        self._scorer.close()

    def open(self, prompt: np.ndarray, resume: Beams | None = None) -> Turn:
        """Run the prompt and decide level 1, or stand at the beams of an earlier session.

        Args:
            prompt: vocabulary ids.  Shape (P,).
            resume: exact beams of a level >= 1, in ascending node order.
        """
        self._scorer.prefill(prompt)
        if resume is None or resume.level == 0:
            verified = self._verify()
            accepted = verified.levels - 1
            return Turn(self.beams, 1, prompt_rows=len(prompt), accepted_levels=accepted)
        self.beams = resume
        return Turn(resume, passes=1, prompt_rows=len(prompt))

    def plain_step(self) -> Turn:
        """Decide one level with one row per beam (plain beam search), and free ones behind it."""
        return self._advance({}, dropped=0)

    def advance(self, tree: CandidateTree, max_rows: int) -> Turn:
        """Verify a candidate tree in one pass; at least one level is decided.

        Args:
            tree: drafted nodes; an empty one leaves the exhaustive levels alone.
            max_rows: row budget of the pass, the beams' own rows included.
        """
        if self.finished:
            return Turn(self.beams, dropped_nodes=len(tree))
        self._scorer.forget_unrelated(self.beams)
        resolved = resolve_tree(self._trie, self.beams, tree)
        own = len(self.beams) * self.beams.level  # rows of the beams and, at worst, their ancestors
        budget = min(max_rows - len(self.beams), self._scorer.room - own)
        levels = widen_exhaustively(
            self._trie,
            self.beams,
            resolved.levels,
            budget,
            self._scorer.alive,
            self._scorer.needs_row,
        )
        return self._advance(levels, resolved.dropped)

    def _advance(self, levels: dict[int, np.ndarray], dropped: int) -> Turn:
        if self.finished:
            return Turn(self.beams, dropped_nodes=dropped)
        before = self.beams.level
        own = self.beams.nodes[self._scorer.needs_row(before, self.beams.nodes)]
        if self._scorer.room < len(own) * before:
            # Only reached without a tree: then the beams' rows are all that is needed.
            self._scorer.forget_unrelated(self.beams, below=False)
        rows = self._scorer.add_rows({before: own, **levels} if len(own) else levels)
        verified = self._verify()
        return Turn(
            self.beams,
            passes=int(rows > 0),
            rows=rows,
            accepted_levels=verified.levels - int(rows > 0),
            dropped_nodes=dropped,
        )

    def _verify(self) -> Verified:
        verified = self._scorer.verify(self.beams, self._width)
        self.beams = verified.beams
        return verified
