"""Mixing what several sources say about the children of a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.decoding.free_nodes import alive_children
from specbeam.drafting.question import ChildScorer, DraftQuestion


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """One source.

    Attributes:
        name: of the drafter.
        scorer: its log-probabilities of children.
        weight: how much it counts beside the others, above 0.
    """

    name: str
    scorer: ChildScorer
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Mixed:
    """What the sources say together about the children of n nodes.

    Attributes:
        logprobs: of the mixture; -inf where no source knows the child.  Shape (n, C).
        first: of the first source alone.  Shape (n, C).
        sources: number of the source with the largest share.  Shape (n, C), uint8.
    """

    logprobs: np.ndarray
    first: np.ndarray
    sources: np.ndarray


def mix(
    sources: Sequence[WeightedScorer], level: int, nodes: np.ndarray, question: DraftQuestion
) -> Mixed:
    """Average the sources' probabilities, among those that know the node at all.

    A source that knows a node and does not list a child gives that child nothing.

    Args:
        sources: at least one.
        level: level of `nodes`, 0 .. L - 1.
        nodes: trie nodes, any order.  Shape (n,).
        question: names the catalogue and the filter.
    """
    dead = ~alive_children(question.trie, level, nodes, question.leaf_filter)
    total = largest = first = None
    best = np.zeros(dead.shape, np.uint8)
    weights = np.zeros(len(nodes))
    for number, source in enumerate(sources):
        logprobs = source.scorer(level, nodes)
        logprobs = np.where(dead, -np.inf, logprobs)
        share = source.weight * np.exp(logprobs)
        weights += source.weight * (logprobs > -np.inf).any(axis=1)
        if total is None or largest is None:
            first, total, largest = logprobs, share, share
            continue
        total = total + share
        better = share > largest
        best[better] = number
        largest = np.where(better, share, largest)
    assert total is not None and first is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        mixed = np.log(total / np.maximum(weights, 1e-300)[:, None])
    return Mixed(mixed, first, best)
