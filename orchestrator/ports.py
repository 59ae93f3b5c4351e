"""What the domain asks of the two model services, and in which words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from specbeam.bundle import Fingerprints
from specbeam.catalog import LeafSpec
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.shape import DraftShape
from specbeam.decoding.tree import CandidateTree

ForwardTimes: TypeAlias = tuple[tuple[int, int], ...]
"""Start and end of each forward pass, nanoseconds of CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True)
class BeamPaths:
    """Exact beams as token paths, ascending.

    Attributes:
        level: Tokens decided, 0..L.
        tokens: Token paths, padded. Shape (W', level), int64.
        scores: Cumulative log-probabilities. Shape (W',), float64.
        ranks: The values they are ordered by; None = the scores. Shape (W',), float64.
    """

    level: int
    tokens: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of live beams W'."""
        return len(self.scores)


ROOT = BeamPaths(0, np.zeros((1, 0), np.int64), np.zeros(1))
"""The single beam before any token is decided."""


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session searches for.

    Attributes:
        request_id: Id of the request, for logs.
        tenant: Owner of every stored state.
        bundle: Name of the bundle.
        fingerprints: What the bundle must be.
        score_kind: VOCAB, LEVEL or TRIE.
        prompt: Vocabulary ids. Shape (T,).
        beam_width: W.
        leaves: Which leaves an answer may contain.
        max_rows: Row budget of one pass, the beams' own rows included.
        item_length: L.
        vocab_size: Number of vocabulary ids.
        report_nodes: Most nodes per level whose scores the target reports; 0 = none.
        own_draft: What to ask the drafter beside the target for, below the level-1 beams.
        selection: How beams are chosen.
    """

    request_id: str
    tenant: str
    bundle: str
    fingerprints: Fingerprints
    score_kind: str
    prompt: np.ndarray
    beam_width: int
    leaves: LeafSpec
    max_rows: int
    item_length: int
    vocab_size: int
    report_nodes: int = 0
    own_draft: DraftShape | None = None
    selection: Selection = BY_SCORE


@dataclass(frozen=True, slots=True)
class PlainSteps:
    """Take this many levels, one pass each."""

    count: int


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """Go on to the last level; thin levels are taken exhaustively."""


Step: TypeAlias = CandidateTree | PlainSteps | RunToEnd
"""How the exact beams move on."""


@dataclass(frozen=True, slots=True)
class TargetTurn:
    """One answer of the target.

    Attributes:
        beams: Exact beams now.
        finished: The beams are whole items, or none is alive.
        passes: Forward passes.
        rows: Tree rows computed, prompt rows not.
        prompt_rows: Prompt positions computed.
        accepted_levels: Levels settled beyond one per pass.
        dropped_nodes: Drafted nodes thrown away.
        cached_tokens: Prompt positions found instead of computed.
        forward_ms: Time inside forward passes, milliseconds.
        forwards: Each forward pass.
        scored: Nodes the target scored, below the beams before the turn; None = not reported.
        drafted: What the drafter beside the target proposes below `beams`; None = nothing.
    """

    beams: BeamPaths
    finished: bool
    passes: int = 0
    rows: int = 0
    prompt_rows: int = 0
    accepted_levels: int = 0
    dropped_nodes: int = 0
    cached_tokens: int = 0
    forward_ms: float = 0.0
    forwards: ForwardTimes = ()
    scored: ScoredTree | None = None
    drafted: ScoredTree | None = None


@dataclass(frozen=True, slots=True)
class DraftedLevel:
    """One drafted level as received; nothing about it has been checked.

    Attributes:
        base_level: Level of the beams the proposal grows from.
        level: Level of the nodes.
        parents: Parent of each node, numbered as in `CandidateTree`. Shape (n,), int64.
        tokens: Vocabulary id of each node, or padding. Shape (m,), int64; m should equal n.
        last: Whether this is the end of the proposal.
        forward_ms: Time inside forward passes since the last message, milliseconds.
        forwards: Each forward pass since the last message.
        logprobs: Log-probability of each node given its parent, or nothing. Shape (n,) or (0,),
            float32.
    """

    base_level: int
    level: int
    parents: np.ndarray
    tokens: np.ndarray
    last: bool
    forward_ms: float = 0.0
    forwards: ForwardTimes = ()
    logprobs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """A bundle as a model service describes it.

    Attributes:
        fingerprints: Its content hashes.
        score_kind: VOCAB, LEVEL or TRIE; empty on the draft's side.
        own_drafter: Name of the drafter beside the target; empty = none.
    """

    fingerprints: Fingerprints
    score_kind: str = ""
    own_drafter: str = ""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What a model service says about itself.

    Attributes:
        bundles: What it serves, by name.
        slots: Sessions that can hold KV states at once.
        slots_free: Slots free now.
        max_rows: Largest number of rows in a pass (nodes on a level for a draft); 0 = unknown.
        max_beam_width: Largest beam width accepted; 0 = unknown.
        costs: Milliseconds of a pass by (rows, prefix tokens).
    """

    bundles: Mapping[str, ServedBundle] = field(default_factory=dict)
    slots: int = 0
    slots_free: int = 0
    max_rows: int = 0
    max_beam_width: int = 0
    costs: Mapping[tuple[int, int], float] = field(default_factory=dict)


class SessionLost(Exception):
    """The session ended before its answer; a new one can go on from the last exact beams.

    Attributes:
        connected: Whether there was a connection when the session began.
    """

    def __init__(self, problem: str, *, connected: bool = False) -> None:
        super().__init__(problem)
        self.connected = connected


class DraftFailed(Exception):
    """The draft service did not answer the session."""


class DraftInvalid(Exception):
    """The draft service broke the protocol."""


class TargetSession(Protocol):
    """One search session on the target. Every sent message is answered by one turn."""

    async def send_open(
        self,
        spec: SessionSpec,
        *,
        resume: BeamPaths | None = None,
        then: Step | None = None,
        tree: CandidateTree | None = None,
    ) -> None:
        """Open the session.

        Args:
            spec: What to search for.
            resume: Exact beams of an earlier session to go on from.
            tree: Candidates below the root, verified in the same pass as the prompt.
            then: Step to the last level, taken in the same turn; ends the sending side.

        Raises:
            SessionLost: The target went away.
        """

    async def send_step(self, base_level: int, step: Step, *, last: bool) -> None:
        """Move the exact beams on; `last` ends the sending side.

        Raises:
            SessionLost: The target went away.
        """

    async def turn(self) -> TargetTurn:
        """Return the next answer.

        Raises:
            SessionLost: The target went away.
            SpecbeamError: The target refused.
        """

    def close(self) -> None:
        """Let the session end by itself once everything was answered."""

    def cancel(self) -> None:
        """End the session at once."""


class TargetPort(Protocol):
    """The target service."""

    def session(self, timeout_s: float) -> TargetSession:
        """Return a new session that lives for at most `timeout_s`."""

    async def info(self, timeout_s: float) -> PeerInfo:
        """Return what the target says about itself.

        Raises:
            TargetUnavailable: It is out of reach.
        """


class DraftSession(Protocol):
    """One drafting session. Every method raises `DraftFailed` when the service is gone."""

    async def send_open(self, spec: SessionSpec) -> None:
        """Open the session; the service computes the prompt."""

    async def send_propose(self, beams: BeamPaths, levels: int, max_nodes: int) -> None:
        """Ask for `levels` levels below exact beams, at most `max_nodes` nodes on each."""

    async def level(self) -> DraftedLevel:
        """Return the next drafted level.

        Raises:
            DraftInvalid: Something else came.
        """

    def close(self) -> None:
        """Let the session end by itself."""

    def cancel(self) -> None:
        """End the session at once."""


class DraftPort(Protocol):
    """The draft service."""

    def session(self, timeout_s: float) -> DraftSession:
        """Return a new session that lives for at most `timeout_s`."""

    async def info(self, timeout_s: float) -> PeerInfo:
        """Return what the service says about itself.

        Raises:
            DraftUnavailable: It is out of reach.
        """
