"""What the Python client returns about how an answer came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ForwardInterval:
    """One forward pass of ``target`` or ``draft``, nanoseconds of CLOCK_MONOTONIC."""

    service: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class DebugSpan:
    """Something that took time in the orchestrator, nanoseconds of CLOCK_MONOTONIC.

    Attributes:
        name: ``history``, ``prompt``, ``open``, ``draft``, ``tree``, ``verify`` or ``rank``.
        start_ns: Start.
        end_ns: End.
        round: Round it belongs to, counted from 0; None = none.
    """

    name: str
    start_ns: int
    end_ns: int
    round: int | None = None


@dataclass(frozen=True, slots=True)
class DebugNode:
    """One prefix of a round.

    Attributes:
        tokens: Token path; its length is the node's level.
        fate: ``accepted``, ``rejected``, ``missed`` or ``unreached``.
        source: Drafter that spoke most for it; empty when nobody drafted it. ``target``: an exact
            beam nobody drafted that had a row nevertheless.
        draft_score: Cumulative log-probability the drafters gave it; None = not drafted.
        target_score: Cumulative log-probability of the target; None = not told.
    """

    tokens: tuple[int, ...]
    fate: str
    source: str = ""
    draft_score: float | None = None
    target_score: float | None = None


@dataclass(frozen=True, slots=True)
class TreeEstimate:
    """What the chooser of a tree expected; see ``TreeEstimate`` in the protocol."""

    ms: float
    plain_ms: float
    coverage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DebugRound:
    """One turn of the target that settled something.

    Attributes:
        base_level: Level of the exact beams before it.
        level: Level of the exact beams after it.
        step: How the target was asked: ``prompt``, ``tree``, ``plain`` or ``run``.
        rows: Tree rows computed.
        forward_ms: Inside forward passes, milliseconds.
        nodes: Drafted nodes, and exact beams that were not drafted.
        estimate: What the chooser expected of the tree; None = nothing was chosen.
    """

    base_level: int
    level: int
    step: str
    rows: int
    forward_ms: float
    nodes: tuple[DebugNode, ...]
    estimate: TreeEstimate | None = None


@dataclass(frozen=True, slots=True)
class DebugInfo:
    """How an answer came about.

    Attributes:
        prompt_token_ids: The prompt as the models got it.
        forwards: Every forward pass, in order of start.
        draft_sources: Drafted nodes by the drafter that spoke most for them.
        rounds: Every turn of the target that settled something, in order.
        spans: What happened when in the orchestrator, in order of start.
    """

    prompt_token_ids: tuple[int, ...]
    forwards: tuple[ForwardInterval, ...]
    draft_sources: Mapping[str, int] = field(default_factory=dict)
    rounds: tuple[DebugRound, ...] = ()
    spans: tuple[DebugSpan, ...] = ()
