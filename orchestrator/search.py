"""One exact search: the target's turns, helped by drafts or not."""

import logging
import time
from dataclasses import dataclass, field

from orchestrator.breaker import Breaker
from orchestrator.budget import draft_timeout_s
from orchestrator.drafting import Drafting
from orchestrator.driving import TargetDriver, TargetWork
from orchestrator.flags import Flag
from orchestrator.ports import (
    BeamPaths,
    DraftPort,
    PlainSteps,
    RunToEnd,
    SessionSpec,
    Step,
    TargetPort,
)
from specbeam.decoding.shape import draft_shape
from specbeam.runtime.deadlines import CallBudget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SearchJob:
    """One search.

    Attributes:
        spec: What to search for.
        fan_outs: Mean children per node by level. Length L.
        budget: Time left for the request.
        speculate: Whether to use drafts.
    """

    spec: SessionSpec
    fan_outs: tuple[float, ...]
    budget: CallBudget
    speculate: bool


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The exact beams, and what they cost.

    Attributes:
        beams: Whole items, or none.
        work: What the target did.
        speculated: Whether a flow with drafts was chosen.
        rounds: Trees sent to the target.
        drafted_nodes: Nodes the drafts proposed.
        draft_ms: Time waited for the draft, milliseconds.
        draft_forwards: Forward passes of the draft.
        flags: What was not as usual.
        search_ms: Time of the whole search, milliseconds.
    """

    beams: BeamPaths
    work: TargetWork
    speculated: bool
    rounds: int = 0
    drafted_nodes: int = 0
    draft_ms: float = 0.0
    draft_forwards: tuple[tuple[int, int], ...] = ()
    flags: tuple[Flag, ...] = ()
    search_ms: float = 0.0


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
        driver = TargetDriver(self.target, job.spec, job.budget)
        try:
            if job.speculate:
                return await self._speculative(job, driver, started)
            return await _plain(job, driver, started)
        finally:
            driver.close()

    async def _speculative(
        self, job: SearchJob, driver: TargetDriver, started: float
    ) -> SearchOutcome:
        drafting = Drafting(self.draft, self.breaker)
        rounds = 0
        try:
            drafting.start(job.spec, job.budget.for_call())
            alone = not drafting.usable and job.spec.item_length > 1
            await driver.open(RunToEnd() if alone else None)
            while not driver.finished:
                step = await self._next_step(job, driver, drafting, rounds)
                rounds += not isinstance(step, PlainSteps | RunToEnd)
                await driver.advance(step)
        finally:
            drafting.stop()
        if drafting.problem:
            _log.warning("draft not used: %s: %s", drafting.flag, drafting.problem)
        return SearchOutcome(
            beams=driver.beams,
            work=driver.work,
            speculated=True,
            rounds=rounds,
            drafted_nodes=drafting.drafted_nodes,
            draft_ms=drafting.wait_ms,
            draft_forwards=tuple(drafting.forwards),
            flags=() if drafting.flag is None else (drafting.flag,),
            search_ms=(time.perf_counter() - started) * 1e3,
        )

    async def _next_step(
        self, job: SearchJob, driver: TargetDriver, drafting: Drafting, rounds: int
    ) -> Step:
        spec = job.spec
        shape = draft_shape(job.fan_outs, driver.beams.level, spec.beam_width, spec.max_rows)
        if not drafting.usable or not shape.levels or rounds >= spec.item_length:
            return RunToEnd()
        timeout_s = draft_timeout_s(job.budget, self.draft_timeout_ms)
        tree = await drafting.propose(driver.beams, shape, spec, timeout_s)
        return tree if tree is not None and len(tree) else RunToEnd()


async def _plain(job: SearchJob, driver: TargetDriver, started: float) -> SearchOutcome:
    steps = job.spec.item_length - 1
    await driver.open(PlainSteps(steps) if steps else None)
    return SearchOutcome(
        beams=driver.beams,
        work=driver.work,
        speculated=False,
        search_ms=(time.perf_counter() - started) * 1e3,
    )
