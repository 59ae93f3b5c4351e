"""One exact search: the target's turns, helped by drafters or not."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.breaker import Breaker
from orchestrator.budget import draft_timeout_s
from orchestrator.candidates import Candidates
from orchestrator.drafting import Drafting
from orchestrator.driving import TargetDriver, TargetWork
from orchestrator.flags import Flag
from orchestrator.ports import (
    ROOT,
    BeamPaths,
    DraftPort,
    PlainSteps,
    RunToEnd,
    SessionSpec,
    Step,
    TargetPort,
)
from orchestrator.watch import UNWATCHED, SearchWatch, now_ns
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.shape import DraftShape, union_shape
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.registry import HEAD, MODEL
from specbeam.drafting.ways import Flow
from specbeam.runtime.deadlines import CallBudget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SearchJob:
    """One search.

    Attributes:
        spec: What to search for.
        fan_outs: Mean children per node by level. Length L.
        budget: Time left for the request.
        flow: How to drive the target; anything but PLAIN uses drafters.
        candidates: Makes the trees; not used by PLAIN.
        use_model: Whether to ask the draft service.
        watch: Who looks on.
    """

    spec: SessionSpec
    fan_outs: tuple[float, ...]
    budget: CallBudget
    flow: Flow = Flow.PLAIN
    candidates: Candidates | None = None
    use_model: bool = True
    watch: SearchWatch = UNWATCHED

    def shape(self, beams: BeamPaths) -> DraftShape:
        """Return what a model drafter is asked for below beams."""
        return union_shape(self.fan_outs, beams.level, self.spec.beam_width, self.spec.max_rows)


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The exact beams, and what they cost.

    Attributes:
        beams: Whole items, or none.
        work: What the target did.
        flow: The flow that was chosen.
        rounds: Trees sent to the target.
        drafted_nodes: Nodes of these trees.
        draft_ms: Time waited for the draft service, milliseconds.
        draft_forwards: Forward passes of the draft.
        flags: What was not as usual.
        search_ms: Time of the whole search, milliseconds.
        sources: Drafted nodes by the drafter that spoke most for them.
        left_out: Nodes of models that no tree could hold: not in the trie, or twice.
    """

    beams: BeamPaths
    work: TargetWork
    flow: Flow
    rounds: int = 0
    drafted_nodes: int = 0
    draft_ms: float = 0.0
    draft_forwards: tuple[tuple[int, int], ...] = ()
    flags: tuple[Flag, ...] = ()
    search_ms: float = 0.0
    sources: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0

    @property
    def speculated(self) -> bool:
        """Whether a flow with drafters was chosen."""
        return self.flow is not Flow.PLAIN


@dataclass(slots=True)
class Searcher:
    """Runs searches on one target and, where there is one, one draft service.

    Attributes:
        target: The target service.
        draft: The draft service, or None.
        draft_timeout_ms: Longest wait for one proposal, milliseconds.
        breaker: Leaves a failing draft service alone for a while.
    """

    target: TargetPort
    draft: DraftPort | None
    draft_timeout_ms: float
    breaker: Breaker = field(default_factory=Breaker)

    async def run(self, job: SearchJob) -> SearchOutcome:
        """Return the exact beams of the last level.

        Raises:
            TargetUnavailable: No target could be reached in time.
            DeadlineSpent: The deadline passed.
        """
        started = time.perf_counter()
        driver = TargetDriver(self.target, job.spec, job.budget, job.watch)
        try:
            if job.flow is Flow.PLAIN or job.candidates is None:
                return await _plain(job, driver, started)
            draft = self.draft if job.use_model else None
            drafting = Drafting(draft, self.breaker)
            search = _Speculative(job, job.candidates, driver, drafting, self.draft_timeout_ms)
            return await search.run(started)
        finally:
            driver.close()


class _Speculative:
    """One search with drafters, root first or in one pass; both go on alike after a miss."""

    def __init__(
        self,
        job: SearchJob,
        candidates: Candidates,
        driver: TargetDriver,
        drafting: Drafting,
        draft_timeout_ms: float,
    ) -> None:
        self._job, self._candidates, self._driver = job, candidates, driver
        self._drafting, self._draft_timeout_ms = drafting, draft_timeout_ms
        self._rounds = self._nodes = 0

    async def run(self, started: float) -> SearchOutcome:
        """Open, verify trees until the end."""
        driver, drafting = self._driver, self._drafting
        try:
            drafting.start(self._job.spec, self._job.budget.for_call())
            await self._open()
            while not driver.finished:
                step, before = await self._next_step(), driver.beams
                await driver.advance(step)
                self._learn(before)
        finally:
            drafting.stop()
        if drafting.problem:
            _log.warning("draft not used: %s: %s", drafting.flag, drafting.problem)
        return SearchOutcome(
            beams=driver.beams,
            work=driver.work,
            flow=self._job.flow,
            rounds=self._rounds,
            drafted_nodes=self._nodes,
            draft_ms=drafting.wait_ms,
            draft_forwards=tuple(drafting.forwards),
            flags=self._flags(),
            search_ms=(time.perf_counter() - started) * 1e3,
        )

    def _flags(self) -> tuple[Flag, ...]:
        """Where there is no draft service nothing is amiss."""
        flag, drafting = self._drafting.flag, self._drafting
        return (flag,) if flag is not None and drafting.has_service else ()

    @property
    def _others_speak(self) -> bool:
        return self._candidates.speaks or self._job.spec.own_draft is not None

    async def _open(self) -> None:
        job, driver = self._job, self._driver
        if job.flow is Flow.ONE_PASS:
            tree = await self._tree(ROOT)
            if tree is not None:
                await driver.open(tree=tree)
                self._learn(ROOT)
                return
            if self._candidates.plans and not job.watch.stepwise:
                await driver.open(PlainSteps(job.spec.item_length - 1))
                return
        alone = not (self._drafting.usable or self._others_speak or job.watch.stepwise)
        to_end = RunToEnd() if not self._candidates.plans else PlainSteps(job.spec.item_length - 1)
        await driver.open(to_end if alone and job.spec.item_length > 1 else None)

    async def _next_step(self) -> Step:
        job, length = self._job, self._job.spec.item_length
        if self._rounds >= length:
            return RunToEnd()
        tree = await self._tree(self._driver.beams)
        if tree is not None:
            return tree
        if self._candidates.plans:
            return PlainSteps(1 if job.watch.stepwise else length - self._driver.beams.level)
        return RunToEnd()

    def _learn(self, before: BeamPaths) -> None:
        """Tell the candidates what became of the last tree, unless a lost session hides it."""
        scored, after = self._driver.work.scored, self._driver.beams
        last = scored[-1] if scored else None
        told = None if last is None or last[0].level != before.level else last[1]
        self._candidates.settled(before, told, after)

    async def _tree(self, beams: BeamPaths) -> CandidateTree | None:
        """Return the union of what the drafters say below exact beams; None for nothing.

        Models are not asked below levels of few children, which others know as well. There a
        planner may want a small tree; without one the target takes such levels whole.
        """
        shape = self._job.shape(beams)
        deepest = beams.level == len(self._job.fan_outs) - 1
        if deepest or not (shape.levels or self._candidates.plans):
            return None
        proposals: dict[str, ScoredTree] = {}
        drafted = self._driver.drafted
        if drafted is not None and drafted.base_level == beams.level:
            proposals[HEAD] = drafted
        if self._drafting.usable and shape.levels:
            began = now_ns()
            timeout_s = draft_timeout_s(self._job.budget, self._draft_timeout_ms)
            model = await self._drafting.propose(beams, shape, self._job.spec, timeout_s)
            self._job.watch.span("draft", began)
            if model is not None:
                proposals[MODEL] = model
        began = now_ns()
        tree = self._candidates.tree(beams, proposals)
        self._job.watch.span("tree", began)
        if tree is not None:
            self._job.watch.tree(beams, tree, self._candidates.drafted)
            self._rounds += 1
            self._nodes += len(tree)
        return tree


async def _plain(job: SearchJob, driver: TargetDriver, started: float) -> SearchOutcome:
    steps = 0 if job.watch.stepwise else job.spec.item_length - 1
    await driver.open(PlainSteps(steps) if steps else None)
    while not driver.finished:
        await driver.advance(PlainSteps(1))
    return SearchOutcome(
        beams=driver.beams,
        work=driver.work,
        flow=Flow.PLAIN,
        search_ms=(time.perf_counter() - started) * 1e3,
    )
