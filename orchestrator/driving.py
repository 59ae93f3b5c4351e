"""The target's side of one search: turns, and going on elsewhere when a session is lost."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from orchestrator.budget import ANSWER_RESERVE_S
from orchestrator.ports import (
    ROOT,
    BeamPaths,
    PlainSteps,
    RunToEnd,
    SessionLost,
    SessionSpec,
    Step,
    TargetPort,
    TargetSession,
    TargetTurn,
)
from orchestrator.watch import UNWATCHED, SearchWatch, now_ns, step_name
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent, Internal, TargetUnavailable

# A session that was under way and then died is replaced this often per request.
MAX_LOST_SESSIONS = 2
# A target that restarts, or another replica, has this long to take over a search.
RESUME_WINDOW_S = 2.0
# Where nobody was there to begin with, nothing is lost by failing soon: callers go elsewhere.
START_WINDOW_S = 0.1
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TurnWork:
    """What one turn of the target took.

    Attributes:
        before: Level of the exact beams before it.
        passes: Forward passes.
        rows: Tree rows computed.
        prompt_rows: Prompt positions computed.
        forward_ms: Inside forward passes.
        wait_ms: From asking to the answer.
    """

    before: int
    passes: int
    rows: int
    prompt_rows: int
    forward_ms: float
    wait_ms: float


@dataclass(slots=True)
class TargetWork:
    """What the target did for one request; fields as in `TargetTurn`.

    Attributes:
        scored: The beams before each turn, and the nodes scored in it.
        turns: Each turn.
    """

    passes: int = 0
    rows: int = 0
    prompt_rows: int = 0
    accepted_levels: int = 0
    dropped_nodes: int = 0
    cached_tokens: int = 0
    forward_ms: float = 0.0
    wait_ms: float = 0.0
    forwards: list[tuple[int, int]] = field(default_factory=list)
    scored: list[tuple[BeamPaths, ScoredTree]] = field(default_factory=list)
    turns: list[TurnWork] = field(default_factory=list)

    def add(self, turn: TargetTurn, before: BeamPaths, wait_ms: float) -> None:
        """Add one turn from the beams `before`."""
        self.wait_ms += wait_ms
        self.turns.append(
            TurnWork(
                before.level, turn.passes, turn.rows, turn.prompt_rows, turn.forward_ms, wait_ms
            )
        )
        if turn.scored is not None and turn.scored.base_level == before.level:
            self.scored.append((before, turn.scored))
        self.passes += turn.passes
        self.rows += turn.rows
        self.prompt_rows += turn.prompt_rows
        self.accepted_levels += turn.accepted_levels
        self.dropped_nodes += turn.dropped_nodes
        self.cached_tokens += turn.cached_tokens
        self.forward_ms += turn.forward_ms
        self.forwards.extend(turn.forwards)


class TargetDriver:
    """Moves one exact search forward; after a lost session it goes on from the last exact beams."""

    def __init__(
        self,
        port: TargetPort,
        spec: SessionSpec,
        budget: CallBudget,
        watch: SearchWatch = UNWATCHED,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            port: The target service.
            spec: What to search for.
            budget: Time left for the request.
            watch: Who looks on.
        """
        self._watch = watch
        self._port = port
        self._spec = spec
        self._budget = budget
        self._session: TargetSession | None = None
        self._lost = 0
        self._window_end: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self.beams = ROOT
        self.finished = False
        self.drafted: ScoredTree | None = None
        self.work = TargetWork()

    async def open(self, then: Step | None = None, tree: CandidateTree | None = None) -> None:
        """Get exact beams of level 1, or of a deeper level that a tree settles.

        Args:
            then: Step to the last level, sent along; `finished` holds afterwards.
            tree: Candidates below the root, verified in the same pass as the prompt.

        Raises:
            TargetUnavailable: No target could be reached in time.
            DeadlineSpent: The deadline passed.
        """
        while not self._is_open:
            try:
                await self._open(then, tree)
            except SessionLost as error:
                await self._recover(error)
            except DeadlineSpent as error:
                await self._recover_from_timeout(error)
        while then is not None and not self.finished:
            await self.advance(then)

    async def advance(self, step: Step) -> None:
        """Move the exact beams on by at least one level.

        Raises:
            TargetUnavailable: No target could be reached in time.
            DeadlineSpent: The deadline passed.
        """
        before = self.beams.level
        while self.beams.level == before and not self.finished:
            try:
                if self._session is None:
                    await self._open(None)
                await self._step(step)
            except SessionLost as error:
                await self._recover(error)
            except DeadlineSpent as error:
                await self._recover_from_timeout(error)

    def close(self) -> None:
        """Let the session end; one that still works is cancelled."""
        if self._session is None:
            return
        if self.finished:
            self._session.close()
        else:
            self._session.cancel()
        self._session = None

    @property
    def _is_open(self) -> bool:
        return self.finished or (self._session is not None and self.beams.level > 0)

    async def _open(self, then: Step | None, tree: CandidateTree | None = None) -> None:
        timeout_s, began = self._budget.for_call(reserve_s=ANSWER_RESERVE_S), now_ns()
        self._session = self._port.session(timeout_s)
        resume = self.beams if self.beams.level else None
        tree = tree if resume is None else None
        await self._session.send_open(self._spec, resume=resume, then=then, tree=tree)
        await self._read(step_name(then or tree))
        self._watch.span("open", began)

    async def _step(self, step: Step) -> None:
        if self._session is None:
            raise SessionLost("no session")
        before, began = self.beams.level, now_ns()
        await self._session.send_step(before, step, last=self._is_last(step))
        await self._read(step_name(step))
        self._watch.span("verify", began)
        if self.beams.level <= before and not self.finished:
            raise Internal(metadata={"problem": "the target did not move on"})

    def _is_last(self, step: Step) -> bool:
        """Whether a step surely goes to the last level."""
        if isinstance(step, PlainSteps):
            return self.beams.level + step.count >= self._spec.item_length
        return isinstance(step, RunToEnd)

    async def _read(self, step: str) -> None:
        if self._session is None:
            raise SessionLost("no session")
        started = time.perf_counter()
        try:
            turn = await self._session.turn()
        except BaseException:
            self.work.wait_ms += (time.perf_counter() - started) * 1e3
            raise
        self._check(turn)
        self.work.add(turn, self.beams, (time.perf_counter() - started) * 1e3)
        self._watch.turn(self.beams, turn, step)
        self.beams, self.finished, self.drafted = turn.beams, turn.finished, turn.drafted
        # A target that answers again starts a new window.
        self._window_end, self._pause_s = None, _FIRST_PAUSE_S

    def _check(self, turn: TargetTurn) -> None:
        length = self._spec.item_length
        beams = turn.beams
        complete = beams.level == length or not len(beams)
        if not self.beams.level <= beams.level <= length or len(beams) > self._spec.beam_width:
            raise Internal(metadata={"problem": "the target's beams do not fit the search"})
        if turn.finished != complete:
            raise Internal(metadata={"problem": "the target finished at the wrong level"})

    async def _recover_from_timeout(self, error: DeadlineSpent) -> None:
        """A target may end a session early, for example because its lease ran out."""
        if self._budget.remaining_s() <= 2 * ANSWER_RESERVE_S:
            raise error
        await self._recover(SessionLost("ended before its deadline"))

    async def _recover(self, error: SessionLost) -> None:
        """Forget the session and pause, or give up."""
        worked = self.work.passes > 0 or error.connected
        answered = self._window_end is None and self.work.passes > 0
        if self._session is not None:
            self._session.cancel()
            self._session = None
        self._lost += answered or error.connected
        now = time.monotonic()
        if self._window_end is None:
            self._window_end = now + (RESUME_WINDOW_S if worked else START_WINDOW_S)
            _log.warning("target session lost at level %d: %s", self.beams.level, error)
        if self._budget.remaining_s() <= ANSWER_RESERVE_S:
            raise DeadlineSpent() from error
        left_s = min(self._window_end - now, self._budget.remaining_s() - ANSWER_RESERVE_S)
        if self._lost > MAX_LOST_SESSIONS or left_s <= self._pause_s:
            raise TargetUnavailable() from error
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
