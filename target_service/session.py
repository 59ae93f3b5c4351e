"""One search session on the device thread: turn in, exact beams out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog import LeafFilter, LeafSpec
from specbeam.decoding.beams import Beams
from specbeam.decoding.reporting import chain_scored
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.tree import CandidateTree
from specbeam.engine import BeamSession, Turn
from target_service.model import TargetModel


@dataclass(frozen=True, slots=True)
class PlainSteps:
    """Take `count` levels, one pass each."""

    count: int


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """Go on to the last level with exhaustive rows where they fit."""


@dataclass(frozen=True, slots=True)
class VerifyTree:
    """Verify a tree in one pass.

    Attributes:
        tree: drafted nodes.
        cut: nodes that were dropped before anybody looked at them.
    """

    tree: CandidateTree
    cut: int = 0


@dataclass(frozen=True, slots=True)
class OwnDraft:
    """What is asked of the drafter beside the target.

    Attributes:
        levels: levels to draft below the beams.
        max_nodes: most nodes on one level.
    """

    levels: int
    max_nodes: int


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a session searches for, checked.

    Attributes:
        prompt: vocabulary ids.  Shape (P,), int64.
        beam_width: W.
        max_rows: most tree rows of one pass.
        leaves: which leaves may be returned.
        resume: exact beams of an earlier session, or None to start at the root.
        then: step to take in the same turn as the prompt, or None.
        tree: verified in the same pass as the prompt, or None.
        report_nodes: most nodes of a level that are reported; 0 = none.
        own_draft: what to ask of the drafter beside the target after each turn, or None.
        selection: how beams are chosen.
    """

    prompt: np.ndarray
    beam_width: int
    max_rows: int
    leaves: LeafSpec = field(default_factory=LeafSpec)
    resume: Beams | None = None
    then: PlainSteps | RunToEnd | None = None
    tree: VerifyTree | None = None
    report_nodes: int = 0
    own_draft: OwnDraft | None = None
    selection: Selection = BY_SCORE


@dataclass(frozen=True, slots=True)
class Step:
    """One request to move on.

    Attributes:
        base_level: level of the beams the caller last saw.
        how: what to do.
    """

    base_level: int
    how: PlainSteps | RunToEnd | VerifyTree


@dataclass(frozen=True, slots=True)
class TurnResult:
    """Outcome of one turn.

    Attributes:
        turn: exact beams and counters.
        paths: padded token path of each beam.  Shape (W', level), int32.
        finished: whether the beams are whole items or none is alive.
        forwards: (start, end) of each forward pass, CLOCK_MONOTONIC nanoseconds.
        scored: what was scored below the beams before the turn; None when nothing is reported.
        drafted: what the drafter beside the target proposes below the beams; None when it was not
            asked, is not there, or nothing is left to draft.
    """

    turn: Turn
    paths: np.ndarray
    finished: bool
    forwards: tuple[tuple[int, int], ...]
    scored: ScoredTree | None = None
    drafted: ScoredTree | None = None


class TargetSession:
    """A session from its slot to its last turn; its methods run on the device thread."""

    def __init__(
        self, model: TargetModel, request: SearchRequest, leaf_filter: LeafFilter | None = None
    ) -> None:
        """Prepare; the slot is leased by `open`.

        Args:
            model: the model.
            request: what to search for.
            leaf_filter: its leaves, compiled; None = every leaf.
        """
        self._model = model
        self._request = request
        self._filter = leaf_filter
        self._search: BeamSession | None = None
        self.level = 0

    def open(self) -> TurnResult:
        """Lease a slot, run the prompt, decide level 1 or stand at the resumed beams.

        A step that came with the request is taken in the same turn.
        """
        request = self._request
        search = BeamSession(
            self._model.search_for(request.selection),
            request.beam_width,
            self._filter,
            request.report_nodes,
            request.selection,
        )
        self._search = search
        return self._run(search, lambda: self._open(search))

    def advance(self, step: Step) -> TurnResult:
        """Move on as asked; a finished search stays where it is."""
        if self._search is None:
            raise RuntimeError("the session is not open")
        search = self._search
        return self._run(search, lambda: self._advance(search, step))

    def close(self) -> None:
        """Give the slot back; may be called twice, and without `open`."""
        if self._search is not None:
            self._search.close()

    def _run(self, search: BeamSession, work: Callable[[], Turn]) -> TurnResult:
        meter = self._model.runner.meter
        meter.take()  # of a turn that failed half-way
        turn = work()
        self.level = turn.beams.level
        forwards = meter.take()  # before the drafter uses the LM head, which is no part of a pass
        trie = self._model.bundle.trie
        paths, drafted = turn.beams.paths(trie), self._draft(search)
        return TurnResult(turn, paths, search.finished, forwards, self._scored(turn), drafted)

    def _scored(self, turn: Turn) -> ScoredTree | None:
        """One tree for all passes: they go out from beams that the caller never sees."""
        if not turn.scored:
            return None
        return chain_scored(self._model.bundle.trie, turn.scored)

    def _draft(self, search: BeamSession) -> ScoredTree | None:
        asked, drafter = self._request.own_draft, self._model.own_drafter
        if asked is None or drafter is None or search.finished:
            return None
        if search.beams.level + 1 == self._model.bundle.trie.depth:
            return None  # the last level is never drafted
        return drafter.propose(
            search.root_hidden,
            search.beams,
            asked.levels,
            asked.max_nodes,
            self._request.beam_width,
            self._filter,
            self._request.selection,
        )

    def _open(self, search: BeamSession) -> Turn:
        request = self._request
        turn = Turn(search.beams, dropped_nodes=0 if request.tree is None else request.tree.cut)
        tree = None if request.tree is None else request.tree.tree
        turn = turn.then(search.open(request.prompt, request.resume, tree, request.max_rows))
        return turn if request.then is None else turn.then(self._go_on(search, request.then))

    def _advance(self, search: BeamSession, step: Step) -> Turn:
        if isinstance(step.how, VerifyTree):
            return self._verify(search, step.base_level, step.how)
        return self._go_on(search, step.how)

    def _go_on(self, search: BeamSession, how: PlainSteps | RunToEnd) -> Turn:
        turn = Turn(search.beams)
        if isinstance(how, PlainSteps):
            for _ in range(how.count):
                if search.finished:
                    break
                turn = turn.then(search.plain_step())
            return turn
        nothing = np.zeros(0, np.int64)
        while not search.finished:
            tree = CandidateTree(search.beams.level, nothing, nothing)
            turn = turn.then(search.advance(tree, self._request.max_rows))
        return turn

    def _verify(self, search: BeamSession, base_level: int, how: VerifyTree) -> Turn:
        before = Turn(search.beams, dropped_nodes=how.cut)
        if base_level < search.beams.level:
            # Drafted below beams that are decided by now: nothing is left of it.
            return before.then(Turn(search.beams, dropped_nodes=len(how.tree)))
        return before.then(search.advance(how.tree, self._request.max_rows))
