"""A target and a draft service without a wire, whose faults are scripted."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from orchestrator.ports import (
    BeamPaths,
    DraftedLevel,
    DraftFailed,
    PeerInfo,
    PlainSteps,
    SessionSpec,
    Step,
    TargetTurn,
)
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.drafted_nodes import DraftedNodes

LENGTH = 4


@dataclass
class FakeCandidates:
    """Passes on what the draft service proposes; `own` is what others would say."""

    speaks: bool = False
    own: int = 0
    plans: bool = False

    def settled(self, before: BeamPaths, scored: ScoredTree | None, after: BeamPaths) -> None:
        pass

    drafted: DraftedNodes | None = None

    def tree(self, beams: BeamPaths, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        for tree in proposals.values():
            if len(tree):
                return CandidateTree(beams.level, tree.parents, tree.tokens)
        if not self.speaks:
            return None
        return CandidateTree(beams.level, np.zeros(1, np.int64), np.full(1, self.own))


def beams(level: int, width: int = 2) -> BeamPaths:
    """Beams 0, 1, ... whose paths repeat their number; the score is minus the level."""
    tokens = np.repeat(np.arange(width)[:, None], level, axis=1)
    return BeamPaths(level, tokens, np.full(width, -float(level)))


@dataclass
class FakeTarget:
    """Settles one level per plain step, two per tree, all with a run to the end.

    `faults` says, per answer to come, which exception to raise instead; None = answer.
    """

    faults: list[Exception | None] = field(default_factory=list)
    log: list[object] = field(default_factory=list)
    sessions: list["FakeTargetSession"] = field(default_factory=list)

    def session(self, timeout_s: float) -> "FakeTargetSession":
        assert timeout_s > 0
        self.sessions.append(FakeTargetSession(self))
        return self.sessions[-1]

    async def info(self, timeout_s: float) -> PeerInfo:
        return PeerInfo()


class FakeTargetSession:
    def __init__(self, target: FakeTarget) -> None:
        self._target = target
        self._level = 0
        self._answers: list[Callable[[], TargetTurn]] = []
        self.ended = ""

    async def send_open(
        self,
        spec: SessionSpec,
        *,
        resume: BeamPaths | None = None,
        then: Step | None = None,
        tree: CandidateTree | None = None,
    ) -> None:
        self._target.log.append(("open", resume.level if resume else 0))
        first = resume.level if resume else 1
        if tree is not None:
            self._target.log.append(("with CandidateTree", tree.base_level))
            first += 1
        if then is not None:
            self._target.log.append((f"then {type(then).__name__}", first))
            first += then.count if isinstance(then, PlainSteps) else LENGTH
        self._answers.append(lambda: self._settle(first, len(spec.prompt)))

    async def send_step(self, base_level: int, step: Step, *, last: bool) -> None:
        self._target.log.append((type(step).__name__, base_level))
        if isinstance(step, CandidateTree):
            gain = 2
        else:
            gain = step.count if isinstance(step, PlainSteps) else LENGTH
        self._answers.append(lambda: self._settle(self._level + gain, 0))

    def _settle(self, level: int, prompt_rows: int) -> TargetTurn:
        self._level = min(level, LENGTH)
        now = beams(self._level)
        return TargetTurn(now, self._level == LENGTH, passes=1, rows=2, prompt_rows=prompt_rows)

    async def turn(self) -> TargetTurn:
        fault = self._target.faults.pop(0) if self._target.faults else None
        if fault is not None:
            raise fault
        return self._answers.pop(0)()

    def close(self) -> None:
        self.ended = "closed"

    def cancel(self) -> None:
        self.ended = "cancelled"


@dataclass
class FakeDraft:
    """Answers each proposal with the given levels, or raises."""

    levels: Callable[[BeamPaths], Iterable[DraftedLevel]]
    opening: Exception | None = None
    sessions: list["FakeDraftSession"] = field(default_factory=list)

    def session(self, timeout_s: float) -> "FakeDraftSession":
        self.sessions.append(FakeDraftSession(self))
        return self.sessions[-1]

    async def info(self, timeout_s: float) -> PeerInfo:
        return PeerInfo()


class FakeDraftSession:
    def __init__(self, draft: FakeDraft) -> None:
        self._draft = draft
        self._waiting: list[DraftedLevel] = []
        self.ended = ""
        self.proposals = 0

    async def send_open(self, spec: SessionSpec) -> None:
        if self._draft.opening is not None:
            raise self._draft.opening

    async def send_propose(self, beams: BeamPaths, levels: int, max_nodes: int) -> None:
        self.proposals += 1
        self._waiting = list(self._draft.levels(beams))

    async def level(self) -> DraftedLevel:
        if not self._waiting:
            raise DraftFailed("nothing left")
        return self._waiting.pop(0)

    def close(self) -> None:
        self.ended = "closed"

    def cancel(self) -> None:
        self.ended = "cancelled"


def drafted(
    base: int, level: int, parents: list[int], *, last: bool = True, token: int = 5
) -> DraftedLevel:
    nodes = np.array(parents, np.int64)
    return DraftedLevel(base, level, nodes, np.full(len(nodes), token), last)
