"""K-consistent drafting: which nodes of the next level a drafter proposes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Frontier:
    """A drafter's position on one level.

    Attributes:
        nodes: proposed nodes, best first.  Shape (N',), int64.
        scores: drafter's cumulative scores (the exact beams' scores plus its own below).  Shape
            (N',).
        in_beam: member of the drafter's own beam of width W.  Shape (N',), bool.
    """

    nodes: np.ndarray
    scores: np.ndarray
    in_beam: np.ndarray


def propose_level(
    frontier: Frontier,
    child_nodes: np.ndarray,
    child_logprobs: np.ndarray,
    beam_width: int,
    max_nodes: int,
) -> tuple[Frontier, np.ndarray]:
    """Pick the next level: the drafter's own W-beam first, then the best of the wide beam.

    Drafting with N > W is no superset of drafting with W: children of beams W+1 .. N can push out
    children of the best W.  Reserving the W-beam's own next level guarantees that a drafter equal
    to the target is accepted whole.

    Args:
        frontier: position on level d.
        child_nodes: trie node of each child.  Shape (N', C_d), int64.
        child_logprobs: drafter's log-probabilities, -inf where dead.  Same shape.
        beam_width: W.
        max_nodes: N, most nodes proposed on the level.

    Returns:
        The next frontier, best first, and for each of its nodes the index of its parent in
        `frontier`.

    Source: the reservation is our own; the wide beam is AtSpeed's draft (arXiv 2410.05165).
    """
    scores = frontier.scores[:, None] + child_logprobs
    live = np.flatnonzero(np.isfinite(scores))
    flat, nodes = scores.reshape(-1)[live], child_nodes.reshape(-1)[live]
    parent = live // child_logprobs.shape[1]
    order = np.lexsort((nodes, -flat))
    of_beam = order[frontier.in_beam[parent[order]]][:beam_width]
    reserved = np.zeros(len(flat), bool)
    reserved[of_beam] = True
    others = order[~reserved[order]][: max(0, max_nodes - len(of_beam))]
    reserved_only = reserved.copy()
    reserved[others] = True
    picked = order[reserved[order]]
    return Frontier(nodes[picked], flat[picked], reserved_only[picked]), parent[picked]
