"""The exact beams of every level that one turn of the target settled."""

from __future__ import annotations

import numpy as np

from orchestrator.ports import BeamPaths, TargetTurn
from specbeam.catalog import PAD
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree


def tree_paths(beams: BeamPaths, tree: CandidateTree | ScoredTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the level and the token path of each node of a tree.

    Args:
        beams: What the tree hangs from.
        tree: Parents come before children.

    Returns:
        Levels, shape (n,), int64, -1 for a node without a sound parent; and paths, shape (n, D),
        int64, padded behind each node's own level, D the deepest one.
    """
    width, count = len(beams), len(tree)
    own = width + np.arange(count)
    sound = (tree.parents >= 0) & (tree.parents < own)
    parents = np.where(sound, tree.parents, 0)
    levels = np.full(width + count, -1, np.int64)
    levels[:width] = beams.level
    paths = np.full((width + count, beams.level), PAD, np.int64)
    paths[:width] = beams.tokens
    for level in range(beams.level, beams.level + count):
        below = np.flatnonzero(sound & (levels[parents] == level) & (levels[own] < 0))
        if not len(below):
            break
        paths = np.concatenate([paths, np.full((len(paths), 1), PAD, np.int64)], axis=1)
        paths[own[below], :level] = paths[parents[below], :level]
        paths[own[below], level] = tree.tokens[below]
        levels[own[below]] = level + 1
    return levels[width:], paths[width:]


def cumulative_scores(beams: BeamPaths, tree: ScoredTree) -> np.ndarray:
    """Return the cumulative log-probability of each node of a scored tree.  Shape (n,), float64."""
    scores = np.concatenate([beams.scores, np.full(len(tree), -np.inf)])
    for node, (parent, logprob) in enumerate(
        zip(tree.parents.tolist(), tree.logprobs.tolist(), strict=True), start=len(beams)
    ):
        if 0 <= parent < node:
            scores[node] = scores[parent] + logprob
    own: np.ndarray = scores[len(beams) :]
    return own


def exact_levels(before: BeamPaths, turn: TargetTurn, beam_width: int) -> dict[int, BeamPaths]:
    """Return the exact beams by level, of the levels that a turn settled, ascending.

    The last one is told by the target. Those passed on the way are the best of what it reported,
    whose scores are rounded to single precision: of two prefixes as near as that, either may be
    taken for the last beam of such a level. Levels that were not reported are left out.

    Args:
        before: The exact beams before the turn.
        turn: The turn.
        beam_width: W.
    """
    reached = turn.beams.level
    found: dict[int, BeamPaths] = {}
    if turn.scored is not None and turn.scored.base_level == before.level:
        levels, paths = tree_paths(before, turn.scored)
        scores = cumulative_scores(before, turn.scored)
        for level in range(before.level + 1, reached):
            here = np.flatnonzero(levels == level)
            if len(here):
                found[level] = _best(paths[here, :level], scores[here], beam_width)
    if reached > before.level:
        found[reached] = turn.beams
    return found


def best_nodes(beams: BeamPaths, tree: ScoredTree, count: int) -> ScoredTree:
    """Return what a target would have reported that was asked for fewer nodes.

    Args:
        beams: What the tree hangs from.
        tree: As reported: parents are exact beams of their level.
        count: Most nodes of a level, at least W.
    """
    levels, paths = tree_paths(beams, tree)
    scores = cumulative_scores(beams, tree)
    order = np.lexsort((*paths.T[::-1], -scores, levels))
    ordered = levels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept = np.zeros(len(beams) + len(tree), bool)
    kept[: len(beams)] = True
    kept[len(beams) + order[(rank < count) & (ordered >= 0)]] = True
    places = np.flatnonzero(kept[len(beams) :])
    renumbered = np.cumsum(kept) - 1
    parents = renumbered[tree.parents[places]]
    return ScoredTree(tree.base_level, parents, tree.tokens[places], tree.logprobs[places])


def _best(paths: np.ndarray, scores: np.ndarray, count: int) -> BeamPaths:
    """Return the best paths by score, then path, in path order."""
    by_path = np.lexsort(paths.T[::-1])
    paths, scores = paths[by_path], scores[by_path]
    best = np.sort(np.argsort(-scores, kind="stable")[:count])
    return BeamPaths(paths.shape[1], paths[best], scores[best])
