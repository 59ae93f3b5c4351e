"""What became of every drafted node, and where the time went: the details of one request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.exact_levels import exact_levels, tree_paths
from orchestrator.ports import BeamPaths, SessionSpec, TargetTurn
from orchestrator.watch import SearchWatch, now_ns
from specbeam.catalog import PAD
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.choosing import TreeEstimate
from specbeam.drafting.drafted_nodes import DraftedNodes

if TYPE_CHECKING:
    from orchestrator.bundles import Serving
    from orchestrator.filtering import RequestFilter

# Most nodes per level that the target is asked for.
REPORT_NODES = 1024
# Most nodes in one answer; the others are counted in the log.
MAX_NODES = 2000
# An exact beam nobody drafted that had a row nevertheless: its level was taken whole, the row was
# there from an earlier round, or none was needed.
TARGET_SOURCE = "target"

_log = logging.getLogger(__name__)
Path = tuple[int, ...]


class Fate(Enum):
    """What became of a node; names equal those of the API without their prefix."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    MISSED = "MISSED"
    UNREACHED = "UNREACHED"


@dataclass(frozen=True, slots=True)
class Node:
    """One prefix of a round; fields as in `DebugNode` of the API."""

    tokens: Path
    fate: Fate
    source: str = ""
    draft_score: float | None = None
    target_score: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the target that settled something; fields as in `DebugRound` of the API."""

    base_level: int
    level: int
    step: str
    rows: int
    forward_ms: float
    nodes: tuple[Node, ...]
    estimate: TreeEstimate | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time, on CLOCK_MONOTONIC, nanoseconds.

    Attributes:
        round: Number of its round; None = it belongs to none.
    """

    name: str
    start_ns: int
    end_ns: int
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What a watch of one request has to tell.

    Attributes:
        rounds: In order.
        spans: In order of start.
        left_out: Nodes that are not among the rounds because there are too many.
    """

    rounds: tuple[Round, ...] = ()
    spans: tuple[Span, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    beams: BeamPaths
    tree: CandidateTree
    drafted: DraftedNodes | None


@dataclass(slots=True)
class DetailsWatch(SearchWatch):
    """Collects the details of one request."""

    report_nodes: int = REPORT_NODES
    stepwise: bool = False
    _beam_width: int = 0
    _item_length: int = 0
    _sent: _Sent | None = None
    _rounds: list[Round] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)

    def prepared(self, serving: Serving, chosen: RequestFilter, spec: SessionSpec) -> None:
        """See `SearchWatch`."""
        self._beam_width, self._item_length = spec.beam_width, spec.item_length

    def tree(
        self,
        beams: BeamPaths,
        tree: CandidateTree,
        drafted: DraftedNodes | None,
    ) -> None:
        """See `SearchWatch`."""
        self._sent = _Sent(beams, tree, drafted)

    def turn(self, before: BeamPaths, turn: TargetTurn, step: str) -> None:
        """See `SearchWatch`. A turn that only opens a session again settles nothing."""
        if turn.beams.level <= before.level and not turn.finished:
            return
        sent = self._sent if step == "tree" else None
        self._rounds.append(
            Round(
                before.level,
                turn.beams.level,
                step,
                turn.rows,
                turn.forward_ms,
                round_nodes(before, turn, sent, self._beam_width, self._item_length),
                sent.drafted.estimate if sent is not None and sent.drafted is not None else None,
            )
        )

    def span(self, name: str, start_ns: int) -> None:
        """See `SearchWatch`. Drafts and trees belong to the turn to come, others to the last."""
        number = None
        if name in ("draft", "tree"):
            number = len(self._rounds)
        elif name in ("open", "verify") and self._rounds:
            number = len(self._rounds) - 1
        self._spans.append(Span(name, start_ns, now_ns(), number))

    def details(self) -> Details:
        """Return everything so far, at most `MAX_NODES` nodes."""
        rounds, left_out = _bounded(self._rounds, MAX_NODES)
        if left_out:
            _log.warning("debug details: %d nodes left out, %d sent", left_out, MAX_NODES)
        spans = sorted(self._spans, key=lambda span: span.start_ns)
        return Details(rounds, tuple(spans), left_out)


def round_nodes(
    before: BeamPaths, turn: TargetTurn, sent: _Sent | None, beam_width: int, item_length: int
) -> tuple[Node, ...]:
    """Return what became of the nodes of one round, level by level, the best first.

    The last level is never drafted: its beams are the items. An item that has ended has no nodes
    below its last token.

    Args:
        before: The exact beams before the turn.
        turn: The turn.
        sent: The tree it verified; None = there was none.
        beam_width: W.
        item_length: L.
    """
    exact = {
        level: set(map(tuple, beams.tokens.tolist()))
        for level, beams in exact_levels(before, turn, beam_width).items()
        if level < item_length
    }
    told = _target_scores(before, turn)
    nodes = _drafted(sent, exact, turn.beams.level, told)
    known = {node.tokens for node in nodes}
    for level, paths in exact.items():
        missed = level == turn.beams.level
        fate, source = (Fate.MISSED, "") if missed else (Fate.ACCEPTED, TARGET_SOURCE)
        nodes += [
            Node(path, fate, source, target_score=told.get(path)) for path in sorted(paths - known)
        ]
    kept = (node for node in nodes if node.tokens[-1] != PAD)
    return tuple(sorted(kept, key=lambda node: (len(node.tokens), -_score(node), node.tokens)))


def _drafted(
    sent: _Sent | None,
    exact: dict[int, set[Path]],
    reached: int,
    told: dict[Path, float],
) -> list[Node]:
    """Return the nodes of a tree, each once."""
    if sent is None:
        return []
    levels, paths = tree_paths(sent.beams, sent.tree)
    found: dict[Path, Node] = {}
    for number, (level, padded) in enumerate(zip(levels.tolist(), paths.tolist(), strict=True)):
        path = tuple(padded[:level])
        if level < 0 or path in found:
            continue
        fate = Fate.UNREACHED
        if level <= reached:
            fate = Fate.ACCEPTED if path in exact.get(level, ()) else Fate.REJECTED
        source, score = _said(sent.drafted, number)
        found[path] = Node(path, fate, source, score, told.get(path))
    return list(found.values())


def _said(drafted: DraftedNodes | None, number: int) -> tuple[str, float | None]:
    if drafted is None:
        return "", None
    return drafted.names[int(drafted.sources[number])], float(drafted.scores[number])


def _target_scores(before: BeamPaths, turn: TargetTurn) -> dict[Path, float]:
    """Return what the target told, exact beams in full precision."""
    told: dict[Path, float] = {}
    if turn.scored is not None and turn.scored.base_level == before.level:
        levels, paths = tree_paths(before, turn.scored)
        scores = turn.scored.cumulative(before.scores).tolist()
        rows = zip(levels.tolist(), paths.tolist(), scores, strict=True)
        told = {tuple(path[:level]): score for level, path, score in rows if level >= 0}
    beams = turn.beams
    told.update(zip(map(tuple, beams.tokens.tolist()), beams.scores.tolist(), strict=True))
    return told


def _score(node: Node) -> float:
    for score in (node.target_score, node.draft_score):
        if score is not None:
            return score
    return -np.inf


def _bounded(rounds: Sequence[Round], limit: int) -> tuple[tuple[Round, ...], int]:
    """Keep at most `limit` nodes: exact beams before others, then the best; count the others."""
    places = [(at, number) for at, one in enumerate(rounds) for number in range(len(one.nodes))]
    if len(places) <= limit:
        return tuple(rounds), 0

    def importance(place: tuple[int, int]) -> tuple[bool, bool, float]:
        node = rounds[place[0]].nodes[place[1]]
        exact = node.fate in (Fate.ACCEPTED, Fate.MISSED)
        return (not exact, node.fate is Fate.UNREACHED, -_score(node))

    kept = set(sorted(places, key=importance)[:limit])
    bounded = tuple(
        replace(one, nodes=tuple(n for number, n in enumerate(one.nodes) if (at, number) in kept))
        for at, one in enumerate(rounds)
    )
    return bounded, len(places) - limit
