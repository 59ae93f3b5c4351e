"""One search with a given set of drafters, in process, as the orchestrator drives it."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.decoding.shape import mean_fan_outs, union_shape
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.registry import HEAD
from specbeam.engine import BeamSession, DraftSession, SearchModel, Turn
from specbeam.engine.search import draft_levels, join_levels

# The published scheme: a draft beam of 40 on every level from the root on.
PUBLISHED_NODES = 40


@dataclass(frozen=True, slots=True)
class Line:
    """One way to draft.

    Attributes:
        name: shown.
        sources: drafters.
        one_pass: draft below the root instead of the exact first level.
        published: the plain wide beam of one model, no union, no whole levels.
    """

    name: str
    sources: tuple[str, ...]
    one_pass: bool = False
    published: bool = False


@dataclass(frozen=True, slots=True)
class Searched:
    """What one search took.

    Attributes:
        reached: level of the exact beams after the first tree.
        passes: forward passes of the target, counted at the model.
        rows: tree rows of the target.
        accepted: levels settled beyond one per pass.
        ms: the whole search, milliseconds.
        draft_ms: inside forward passes of the draft model, milliseconds.
        union_ms: choosing the trees and the drafters beside it, milliseconds.
        leaves: exact leaves, best first.
    """

    reached: int
    passes: int
    rows: int
    accepted: int
    ms: float
    draft_ms: float
    union_ms: float
    leaves: np.ndarray


class DraftSearch:
    """One search of one case."""

    def __init__(self, models: DraftModels, case: DraftCase, width: int, max_rows: int) -> None:
        """Prepare.

        Args:
            models: what to run.
            case: the request.
            width: K = W.
            max_rows: row budget of a pass.
        """
        self._models, self._case = models, case
        self._width, self._max_rows = width, max_rows
        self._trie = models.bundle.trie
        self._fan_outs = mean_fan_outs(self._trie)
        self._union_s = 0.0

    def plain(self) -> Searched:
        """Beam search without drafts (A1)."""
        started = time.perf_counter()
        self._models.target.runner.meter.take()
        with closing(BeamSession(self._models.target, self._width)) as session:
            turn = session.open(self._case.prompt)
            while not session.finished:
                turn = turn.then(session.plain_step())
        return self._outcome(turn, 1, started, None)

    def run(self, line: Line) -> Searched:
        """Search with a line's drafters."""
        model = next(
            (self._models.models[n] for n in line.sources if n in self._models.models), None
        )
        started = time.perf_counter()
        self._models.target.runner.meter.take()
        if model is not None:
            model.runner.meter.take()
        with ExitStack() as stack:
            session = stack.enter_context(closing(BeamSession(self._models.target, self._width)))
            draft = None
            if model is not None:
                # Reserving the whole wide beam is the same as reserving nothing.
                width = PUBLISHED_NODES if line.published else self._width
                draft = stack.enter_context(closing(DraftSession(model, width)))
                draft.open(self._case.prompt)
            turn, reached = self._search(line, session, draft)
        return self._outcome(turn, reached, started, model)

    def _search(
        self, line: Line, session: BeamSession, draft: DraftSession | None
    ) -> tuple[Turn, int]:
        candidates = self._candidates(line)
        reached = 0
        if line.one_pass:
            tree = self._tree(line, session, draft, candidates)
            turn = session.open(self._case.prompt, tree=tree, max_rows=self._max_rows)
            reached = turn.beams.level
        else:
            turn = session.open(self._case.prompt)
        while not session.finished:
            tree = self._tree(line, session, draft, candidates)
            turn = turn.then(session.advance(tree, self._max_rows))
            reached = reached or turn.beams.level
        return turn, reached or turn.beams.level

    def _tree(
        self,
        line: Line,
        session: BeamSession,
        draft: DraftSession | None,
        candidates: UnitedCandidates,
    ) -> CandidateTree:
        """Return what to verify; an empty tree leaves the thin levels to the target."""
        beams = session.beams
        if line.published:
            assert draft is not None
            levels = list(draft.propose(beams, self._trie.depth, PUBLISHED_NODES))
            tree = join_levels(beams, levels)
            return CandidateTree(tree.base_level, tree.parents, tree.tokens, complete=True)
        nothing = np.zeros(0, np.int64)
        whole = CandidateTree(beams.level, nothing, nothing)
        shape = union_shape(self._fan_outs, beams.level, self._width, self._max_rows)
        if not shape.levels:
            return whole
        proposals = {}
        if draft is not None:
            proposals["model"] = draft_levels(draft, beams, shape.levels, shape.max_nodes)
        if HEAD in line.sources and self._models.head is not None and beams.level:
            begun = time.perf_counter()
            proposals[HEAD] = self._models.head.propose(
                session.root_hidden, beams, shape.levels, shape.max_nodes, self._width
            )
            self._union_s += time.perf_counter() - begun
        begun = time.perf_counter()
        united = candidates.tree(beams, proposals)
        self._union_s += time.perf_counter() - begun
        return whole if united is None else united

    def _candidates(self, line: Line) -> UnitedCandidates:
        local = {n: d for n, d in self._models.local.items() if n in line.sources}
        return UnitedCandidates(
            trie=self._trie,
            score_kind=self._models.bundle.manifest.score_kind,
            beam_width=self._width,
            max_rows=self._max_rows,
            drafters=local,
            history=self._case.items.astype(np.int64),
            pool=self._case.pool if "pool" in line.sources else (),
            alone=True,
        )

    def _outcome(
        self, turn: Turn, reached: int, started: float, model: SearchModel | None
    ) -> Searched:
        forwards = [] if model is None else model.runner.meter.take()
        beams = turn.beams
        return Searched(
            reached=reached,
            passes=len(self._models.target.runner.meter.take()),
            rows=turn.rows,
            accepted=turn.accepted_levels,
            ms=(time.perf_counter() - started) * 1e3,
            draft_ms=sum(end - start for start, end in forwards) / 1e6,
            union_ms=self._union_s * 1e3,
            leaves=beams.nodes[np.lexsort((beams.nodes, -beams.scores))],
        )
