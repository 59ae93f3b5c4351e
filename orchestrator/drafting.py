"""The draft's side of one search: proposals become candidate trees, failures become flags."""

import asyncio
import math
import time
from dataclasses import dataclass, field

import numpy as np

from orchestrator.breaker import Breaker
from orchestrator.flags import Flag
from orchestrator.ports import (
    BeamPaths,
    DraftedLevel,
    DraftFailed,
    DraftInvalid,
    DraftPort,
    DraftSession,
    SessionSpec,
)
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.shape import DraftShape

# A sum of rounded probabilities may be a little above 1.
LARGEST_LOGPROB = 1e-3


@dataclass(slots=True)
class Proposal:
    """Levels received so far, numbered as one tree.

    Attributes:
        beams: Exact beams it grows from.
        shape: What was asked for.
        beam_width: W.
        vocab_size: Number of vocabulary ids.
    """

    beams: BeamPaths
    shape: DraftShape
    beam_width: int
    vocab_size: int
    _parents: list[np.ndarray] = field(default_factory=list)
    _tokens: list[np.ndarray] = field(default_factory=list)
    _logprobs: list[np.ndarray] = field(default_factory=list)
    _first: int = 0
    _count: int = 0

    def __post_init__(self) -> None:
        """The parents of the first level are the beams."""
        self._count = len(self.beams)

    def add(self, drafted: DraftedLevel) -> None:
        """Check a level and append it.

        Raises:
            DraftInvalid: It breaks the protocol.
        """
        if drafted.last and not len(drafted.tokens):
            return
        self._check(drafted)
        self._parents.append(drafted.parents)
        self._tokens.append(drafted.tokens)
        self._logprobs.append(_told_or_guessed(drafted))
        self._first, self._count = self._first + self._count, len(drafted.tokens)

    def tree(self) -> ScoredTree:
        """Return everything received as one tree; it may be empty."""
        if not self._parents:
            return ScoredTree.empty(self.beams.level)
        parts = (self._parents, self._tokens, self._logprobs)
        return ScoredTree(self.beams.level, *(np.concatenate(part) for part in parts))

    def _check(self, drafted: DraftedLevel) -> None:
        expected = self.beams.level + len(self._parents) + 1
        if drafted.base_level != self.beams.level or drafted.level != expected:
            raise DraftInvalid(
                f"level {drafted.level} on {drafted.base_level}, expected {expected} on "
                f"{self.beams.level}"
            )
        if len(self._parents) >= self.shape.levels:
            raise DraftInvalid(f"more than the {self.shape.levels} levels asked for")
        if len(drafted.parents) != len(drafted.tokens):
            raise DraftInvalid(f"{len(drafted.parents)} parents, {len(drafted.tokens)} tokens")
        if len(drafted.tokens) > max(self.shape.max_nodes, self.beam_width):
            raise DraftInvalid(f"{len(drafted.tokens)} nodes, {self.shape.max_nodes} asked for")
        if not len(drafted.tokens):
            return
        low, high = drafted.parents.min(), drafted.parents.max()
        if low < self._first or high >= self._first + self._count:
            raise DraftInvalid(f"parents {low}..{high} are not on the level above")
        if drafted.tokens.max() >= self.vocab_size:
            raise DraftInvalid(f"token {drafted.tokens.max()} is outside the vocabulary")
        if not math.isfinite(drafted.forward_ms):
            raise DraftInvalid("forward_ms is not finite")
        if len(drafted.logprobs) not in (0, len(drafted.tokens)):
            raise DraftInvalid(f"{len(drafted.logprobs)} logprobs, {len(drafted.tokens)} tokens")
        if np.isnan(drafted.logprobs).any() or (drafted.logprobs > LARGEST_LOGPROB).any():
            raise DraftInvalid("logprobs above 0, or not a number")


def _told_or_guessed(drafted: DraftedLevel) -> np.ndarray:
    """Return the log-probabilities of a level; a drafter may only order its nodes, best first."""
    if len(drafted.logprobs):
        return drafted.logprobs
    return -np.log1p(np.arange(len(drafted.tokens), dtype=np.float32))


class Drafting:
    """Drafts for one request. Never raises because of the draft service: it only sets a flag."""

    def __init__(self, port: DraftPort | None, breaker: Breaker) -> None:
        """Prepare; nothing is sent yet.

        Args:
            port: The draft service; None when there is none.
            breaker: Shared breaker of the service.
        """
        self._port = port
        self._breaker = breaker
        self._session: DraftSession | None = None
        self._opening: asyncio.Task[None] | None = None
        self._settled = True
        self.flag: Flag | None = None
        self.problem = ""
        self.wait_ms = 0.0
        self.drafted_nodes = 0
        self.forwards: list[tuple[int, int]] = []

    @property
    def has_service(self) -> bool:
        """Whether there is a draft service at all."""
        return self._port is not None

    @property
    def usable(self) -> bool:
        """Whether proposals can still be asked for."""
        return self._session is not None

    def start(self, spec: SessionSpec, timeout_s: float) -> None:
        """Open a session in the background.

        Args:
            spec: What is searched for.
            timeout_s: Longest life of the session.
        """
        if self._port is None or not self._breaker.allow():
            self.flag = Flag.NO_DRAFT
            return
        self._settled = False
        self._session = self._port.session(timeout_s)
        self._opening = asyncio.create_task(self._session.send_open(spec))

    async def propose(
        self, beams: BeamPaths, shape: DraftShape, spec: SessionSpec, timeout_s: float
    ) -> ScoredTree | None:
        """Return a tree below exact beams; None when the draft is of no more use.

        Args:
            beams: The target's exact beams.
            shape: What to ask for.
            spec: What is searched for.
            timeout_s: Longest wait.
        """
        session = self._session
        if session is None or self._opening is None:
            return None
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                await self._opening
                await session.send_propose(beams, shape.levels, shape.max_nodes)
                tree = await self._collect(session, beams, shape, spec)
        except TimeoutError:
            self._give_up(Flag.DRAFT_SLOW, "no proposal in time")
            return None
        except DraftInvalid as error:
            self._give_up(Flag.DRAFT_INVALID, str(error))
            return None
        except DraftFailed as error:
            self._give_up(Flag.NO_DRAFT, str(error))
            return None
        finally:
            self.wait_ms += (time.perf_counter() - started) * 1e3
        self._settle()
        self._breaker.succeeded()
        self.drafted_nodes += len(tree)
        return tree

    def stop(self) -> None:
        """End the session if it is still there."""
        if self._session is None:
            return
        if self._settled:
            self._session.close()
        else:
            self._discard(self._session)
            self._settle()
            self._breaker.abandoned()
        self._session = None

    async def _collect(
        self, session: DraftSession, beams: BeamPaths, shape: DraftShape, spec: SessionSpec
    ) -> ScoredTree:
        proposal = Proposal(beams, shape, spec.beam_width, spec.vocab_size)
        for _ in range(shape.levels + 1):
            drafted = await session.level()
            proposal.add(drafted)
            self.forwards.extend(drafted.forwards)
            if drafted.last:
                return proposal.tree()
        raise DraftInvalid("the proposal does not end")

    def _give_up(self, flag: Flag, problem: str) -> None:
        self.flag, self.problem = flag, problem
        if self._session is not None:
            self._discard(self._session)
        self._session = None
        self._settle()
        self._breaker.failed()

    def _discard(self, session: DraftSession) -> None:
        session.cancel()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        elif self._opening is not None and not self._opening.cancelled():
            # Mark a failure as seen, else the loop complains about it.
            self._opening.exception()

    def _settle(self) -> None:
        self._settled = True
