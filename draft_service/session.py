"""One drafting session on the device thread: exact beams in, levels of nodes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from draft_service.model import DraftModel
from specbeam.catalog import ItemTrie, LeafFilter, LeafSpec
from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.engine import DraftedLevel, DraftSession

Forwards = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """What a session drafts for, checked.

    Attributes:
        prompt: vocabulary ids.  Shape (P,), int64.
        beam_width: W.
        leaves: which leaves may be proposed.
        selection: how the target chooses.
    """

    prompt: np.ndarray
    beam_width: int
    leaves: LeafSpec = field(default_factory=LeafSpec)
    selection: Selection = BY_SCORE


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to draft below.

    Attributes:
        beams: those of the caller's beams that are in the drafter's trie.
        numbers: the caller's number of each of them.  Shape (len(beams),), int64.
        count: beams the caller sent, W'; drafted nodes are numbered from there.
        levels: levels to draft.
        max_nodes: most nodes on one level.
    """

    beams: Beams
    numbers: np.ndarray
    count: int
    levels: int
    max_nodes: int


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One drafted level in the caller's numbering.

    Attributes:
        base_level: level of the beams.
        level: level of the nodes.
        parents: caller's number of each parent.  Shape (n,), int64.
        tokens: vocabulary ids or padding.  Shape (n,), int32.
        rows: rows computed.
        last: whether nothing follows in this proposal.
        forwards: (start, end) of each forward pass, CLOCK_MONOTONIC nanoseconds.
        logprobs: log-probability of each node given its parent.  Shape (n,), float32.
    """

    base_level: int
    level: int
    parents: np.ndarray
    tokens: np.ndarray
    rows: int
    last: bool
    forwards: Forwards
    logprobs: np.ndarray


def known_beams(
    trie: ItemTrie, paths: np.ndarray, scores: np.ndarray, ranks: np.ndarray | None = None
) -> tuple[Beams, np.ndarray]:
    """Return the beams that are in `trie`, and the number each had.

    Args:
        trie: the drafter's catalogue, which may be another one than the target's.
        paths: token paths.  Shape (W', level).
        scores: cumulative log-probabilities.  Shape (W',).
        ranks: the values they are ordered by; None = the scores.  Shape (W',).
    """
    nodes = trie.find(paths)
    _, first = np.unique(nodes, return_index=True)  # nodes ascending, each once
    numbers = first[nodes[first] >= 0].astype(np.int64)
    kept = None if ranks is None else ranks[numbers]
    beams = Beams(paths.shape[1], nodes[numbers].astype(np.int64), scores[numbers], kept)
    return beams, numbers


class DraftingSession:
    """A session from its slot to its last proposal.

    `open`, `next_level` and `close` run on the device thread, one level per job, so that other
    sessions come in between.
    """

    def __init__(
        self, model: DraftModel, request: DraftRequest, leaf_filter: LeafFilter | None = None
    ) -> None:
        """Prepare; the slot is leased by `open`.

        Args:
            model: the drafter.
            request: what to draft for.
            leaf_filter: its leaves, compiled; None = every leaf.
        """
        self._model = model
        self._request = request
        self._filter = leaf_filter
        self._draft: DraftSession | None = None
        self._proposal: Proposal | None = None
        self._levels: Iterator[DraftedLevel] = iter(())
        self._sent = 0
        self._sent_before = 0
        self._level = 0

    def open(self) -> Forwards:
        """Lease a slot and run the prompt."""
        request, runner = self._request, self._model.runner
        self._draft = DraftSession(
            self._model.search_for(request.selection),
            request.beam_width,
            self._filter,
            request.selection,
        )
        runner.meter.take()  # of a job that failed half-way
        self._draft.open(request.prompt)
        return runner.meter.take()

    def begin(self, proposal: Proposal) -> None:
        """Start a proposal; what was left of an earlier one is forgotten."""
        if self._draft is None:
            raise RuntimeError("the session is not open")
        self._proposal = proposal
        self._level = proposal.beams.level
        self._sent = self._sent_before = 0
        self._levels = self._draft.propose(proposal.beams, proposal.levels, proposal.max_nodes)

    def next_level(self) -> LevelResult:
        """Draft the next level of the proposal."""
        if self._proposal is None:
            raise RuntimeError("there is no proposal")
        meter = self._model.runner.meter
        meter.take()
        drafted = next(self._levels, None)
        return self._result(self._proposal, drafted, meter.take())

    def close(self) -> None:
        """Give the slot back; may be called twice, and without `open`."""
        if self._draft is not None:
            self._draft.close()

    def _result(
        self, proposal: Proposal, drafted: DraftedLevel | None, forwards: Forwards
    ) -> LevelResult:
        base = proposal.beams.level
        self._level += 1
        if drafted is None:
            none, no_scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
            return LevelResult(base, self._level, none, none, 0, True, forwards, no_scores)
        if drafted.level == base + 1:
            parents = proposal.numbers[drafted.parents]
        else:
            parents = proposal.count + self._sent_before + drafted.parents
        self._sent_before = self._sent
        self._sent += len(drafted.tokens)
        deepest = min(base + proposal.levels, self._model.bundle.trie.depth - 1)
        last = drafted.level >= deepest or not len(drafted.tokens)
        return LevelResult(
            base,
            drafted.level,
            parents,
            drafted.tokens,
            drafted.rows,
            last,
            forwards,
            drafted.logprobs,
        )
