"""Searches in one process, driven as the orchestrator drives them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.settings import ROOT_READY, Knowledge, Setting
from specbeam.decoding.beams import Beams
from specbeam.decoding.reporting import chain_scored
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.shape import DraftShape, mean_fan_outs, union_shape
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.planner import TreePlanner
from specbeam.drafting.prices import SearchPrices
from specbeam.drafting.registry import HEAD, MODEL
from specbeam.drafting.ways import PLAIN, Flow, Way
from specbeam.engine import BeamSession, DraftSession, Turn
from specbeam.engine.search import draft_levels


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one search took.

    Attributes:
        ms: milliseconds, everything included.
        passes: forward passes of the target, counted at the model; with ROOT_READY after the root.
        rows: tree rows of the target.
        draft_ms: asking the model drafter.
        choose_ms: other drafters and choosing the tree.
        leaves: exact leaves, best first.
        reached: level of the exact beams after the first tree; 0 = none was sent.
        accepted: levels settled beyond one per pass.
    """

    ms: float
    passes: int
    rows: int
    draft_ms: float
    choose_ms: float
    leaves: np.ndarray
    reached: int = 0
    accepted: int = 0


class Speculation:
    """One search of one case.

    Attributes:
        draft_beam_width: of the model drafter; None = that of the search.
    """

    draft_beam_width: int | None = None

    def __init__(
        self,
        models: DraftModels,
        case: DraftCase,
        setting: Setting,
        knowledge: Knowledge | None = None,
    ) -> None:
        """Prepare.

        Args:
            models: what to run; the target has one slot, which holds the prompt of this case where
                the setting says so.
            case: the request.
            setting: the kind of search.
            knowledge: lets a planner choose the trees; None = they use up the row budget.
        """
        self._models, self._case, self._setting = models, case, setting
        self._knowledge = knowledge
        self._trie = models.bundle.trie
        self._draft_s = self._choose_s = 0.0
        self._draft: DraftSession | None = None
        self._stack = ExitStack()
        self._held = setting.held(case.prompt, self._trie.depth)
        self._model = next((n for n in setting.sources if n in models.models), "")
        self._reached = 0
        self._trees = 0
        self._turns: list[tuple[int, Turn, float, float]] = []

    def search_prices(self) -> SearchPrices | None:
        """Return what time costs in this search; None without knowledge."""
        if self._knowledge is None:
            return None
        widths = [min(self._setting.width, level.num_nodes) for level in self._trie.levels]
        return SearchPrices(self._knowledge.prices, len(self._case.prompt), widths, self._held)

    def run(self, way: Way) -> Outcome:
        """Search in one way."""
        meter = self._models.target.runner.meter
        setting, ready = self._setting, self._setting.prefix == ROOT_READY
        report = setting.width if self._knowledge is not None and way != PLAIN else 0
        target = setting.model(self._models.target)
        with self._stack as stack:
            session = stack.enter_context(
                closing(
                    BeamSession(
                        target, setting.width, report_nodes=report, selection=setting.selection
                    )
                )
            )
            candidates = self._candidates(way)
            meter.take()
            started = time.perf_counter()
            turn = Turn(session.beams)
            if ready:
                session.open(self._case.prompt, held=self._held)
                meter.take()
                started = time.perf_counter()
            else:
                turn = turn.then(self._open(session, way, candidates))
            while not session.finished:
                turn = turn.then(self._step(session, way, candidates))
            ms = (time.perf_counter() - started) * 1e3
        # Behind the answer.
        candidates.learn()
        self._learn_prices()
        beams = session.beams
        leaves = beams.nodes[np.lexsort((beams.nodes, -beams.rank_values))]
        return Outcome(
            ms,
            len(meter.take()),
            turn.rows,
            self._draft_s * 1e3,
            self._choose_s * 1e3,
            leaves,
            self._reached,
            turn.accepted_levels,
        )

    def _open(self, session: BeamSession, way: Way, candidates: UnitedCandidates) -> Turn:
        prompt, held = self._case.prompt, self._held
        if way.flow is not Flow.ONE_PASS:
            return self._observed(session, lambda: session.open(prompt, held=held), 0)
        tree = self._tree(session, way, candidates)
        if tree is None:
            return self._observed(session, lambda: session.open(prompt, held=held), 0)
        budget = self._setting.max_rows
        turn = self._observed(
            session, lambda: session.open(prompt, tree=tree, max_rows=budget, held=held), 0
        )
        self._told(candidates, turn)
        return turn

    def _step(self, session: BeamSession, way: Way, candidates: UnitedCandidates) -> Turn:
        before = session.beams.level
        tree = None if way == PLAIN else self._tree(session, way, candidates)
        if tree is None and way != PLAIN and self._knowledge is None:
            tree = self._whole_levels(session)
        if tree is None:
            # Where no tree is of use now, none will be below.
            turn = Turn(session.beams)
            while not session.finished:
                step = self._observed(session, session.plain_step, session.beams.level)
                turn = turn.then(step)
        else:
            rows = self._setting.max_rows
            turn = self._observed(session, lambda: session.advance(tree, rows), before)
        if way != PLAIN:
            self._told(candidates, turn)
        return turn

    def _told(self, candidates: UnitedCandidates, turn: Turn) -> None:
        started = time.perf_counter()
        if turn.scored and self._knowledge is not None and self._knowledge.learns:
            before, _ = turn.scored[0]
            candidates.settled(before, chain_scored(self._trie, turn.scored), turn.beams)
        self._choose_s += time.perf_counter() - started

    def _observed(self, session: BeamSession, work: Callable[[], Turn], before: int) -> Turn:
        started = time.perf_counter()
        turn = work()
        if self._trees == 1 and not self._reached:
            self._reached = turn.beams.level
        intervals = self._models.target.runner.meter.intervals
        if self._knowledge is not None and turn.passes == 1 and intervals:
            wall_ms = (time.perf_counter() - started) * 1e3
            forward_ms = (intervals[-1][1] - intervals[-1][0]) / 1e6
            self._turns.append((before, turn, forward_ms, wall_ms))
        return turn

    def _learn_prices(self) -> None:
        prices = self.search_prices()
        if prices is None:
            return
        for before, turn, forward_ms, wall_ms in self._turns:
            expected_ms = prices.expected_ms(before, turn.prompt_rows, turn.rows)
            prices.prices.observe(expected_ms, forward_ms, wall_ms)

    def _whole_levels(self, session: BeamSession) -> CandidateTree:
        """Return a tree that leaves everything to the target, which takes thin levels whole."""
        self._trees += 1
        nothing = np.zeros(0, np.int64)
        return CandidateTree(session.beams.level, nothing, nothing)

    def _tree(
        self, session: BeamSession, way: Way, candidates: UnitedCandidates
    ) -> CandidateTree | None:
        tree = self._propose(session, way, candidates)
        self._trees += tree is not None
        return tree

    def _propose(
        self, session: BeamSession, way: Way, candidates: UnitedCandidates
    ) -> CandidateTree | None:
        """Return the union of what the drafters say below the exact beams."""
        beams, setting = session.beams, self._setting
        shape = union_shape(mean_fan_outs(self._trie), beams.level, setting.width, setting.max_rows)
        deepest = beams.level == self._trie.depth - 1
        if deepest or not (shape.levels or self._knowledge is not None):
            return None
        proposals: dict[str, ScoredTree] = {}
        if way.use_model and self._model and shape.levels:
            proposals[MODEL] = self._ask(beams, shape)
        started = time.perf_counter()
        head = self._models.head
        if HEAD in setting.sources and head is not None and beams.level and shape.levels:
            proposals[HEAD] = head.propose(
                session.root_hidden,
                beams,
                shape.levels,
                shape.max_nodes,
                setting.width,
                selection=setting.selection,
            )
        tree = candidates.tree(beams, proposals)
        self._choose_s += time.perf_counter() - started
        return tree

    def _ask(self, beams: Beams, shape: DraftShape) -> ScoredTree:
        """Let the model drafter propose; its prompt is run the first time."""
        started = time.perf_counter()
        if self._draft is None:
            self._draft = self._stack.enter_context(closing(self._draft_session()))
            self._draft.open(self._case.prompt)
        tree = draft_levels(self._draft, beams, shape.levels, shape.max_nodes)
        spent = time.perf_counter() - started
        self._draft_s += spent
        if self._knowledge is not None:
            self._knowledge.model_ms += 0.1 * (spent * 1e3 - self._knowledge.model_ms)
        return tree

    def _draft_session(self) -> DraftSession:
        setting = self._setting
        model = setting.model(self._models.models[self._model])
        width = self.draft_beam_width or setting.width
        return DraftSession(model, width, selection=setting.selection)

    def _candidates(self, way: Way) -> UnitedCandidates:
        models, setting = self._models, self._setting
        prices = self.search_prices()
        planner = None
        if prices is not None and self._knowledge is not None:
            known = self._knowledge.calibration
            kind = setting.selection.rule
            planner = TreePlanner(self._trie, setting.width, known, prices, kind)
        return UnitedCandidates(
            trie=self._trie,
            score_kind=setting.model(models.target).expansion.scoring.kind,
            beam_width=setting.width,
            max_rows=setting.max_rows,
            drafters={n: d for n, d in models.local.items() if n in setting.sources},
            history=self._case.items.astype(np.int64),
            pool=self._case.pool if "pool" in setting.sources else (),
            alone=True,
            planner=planner,
            selection=setting.selection,
            draft_width=setting.draft_width,
        )


def hold_prompt(models: DraftModels, case: DraftCase) -> None:
    """Leave the states of a case's prompt in the target's only slot."""
    with closing(BeamSession(models.target, 1)) as session:
        session.open(case.prompt)
