"""K-consistent drafting: which nodes of the next level a drafter proposes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Frontier:
    """A drafter's position on one level.

    Attributes:
        nodes: proposed nodes, best first.  Shape (N',), int64.
        scores: drafter's cumulative scores (the exact beams' scores plus its own below).  Shape
            (N',).
        in_beam: member of the drafter's own beam of width W.  Shape (N',), bool.
        ranks: the values nodes are ordered by, where these are not the scores.  Shape (N',).
        keys: of the noise below each node, where there are ranks.  Shape (N',), uint64.
    """

    nodes: np.ndarray
    scores: np.ndarray
    in_beam: np.ndarray
    ranks: np.ndarray | None = None
    keys: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Ranks of all children of a frontier.

    Attributes:
        ranks: -inf where dead.  Shape (N', C_d), float64.
        keys: of their noise.  Same shape, uint64.
    """

    ranks: np.ndarray
    keys: np.ndarray


def propose_level(
    frontier: Frontier,
    child_nodes: np.ndarray,
    child_logprobs: np.ndarray,
    beam_width: int,
    max_nodes: int,
    perturbed: Perturbed | None = None,
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
        perturbed: what the children are ordered by; None = their scores.

    Returns:
        The next frontier, best first, and for each of its nodes the index of its parent in
        `frontier`.

    Source: the reservation is our own; the wide beam is AtSpeed's draft (arXiv 2410.05165).
    """
    scores = frontier.scores[:, None] + child_logprobs
    live = np.flatnonzero(np.isfinite(scores))
    flat, nodes = scores.reshape(-1)[live], child_nodes.reshape(-1)[live]
    parent = live // child_logprobs.shape[1]
    values = flat if perturbed is None else perturbed.ranks.reshape(-1)[live]
    order = np.lexsort((nodes, -values))
    of_beam = order[frontier.in_beam[parent[order]]][:beam_width]
    reserved = np.zeros(len(flat), bool)
    reserved[of_beam] = True
    others = order[~reserved[order]][: max(0, max_nodes - len(of_beam))]
    reserved_only = reserved.copy()
    reserved[others] = True
    picked = order[reserved[order]]
    following = Frontier(nodes[picked], flat[picked], reserved_only[picked])
    if perturbed is not None:
        keys = perturbed.keys.reshape(-1)[live]
        following = replace(following, ranks=values[picked], keys=keys[picked])
    return following, parent[picked]
