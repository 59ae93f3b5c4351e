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


def exact_levels(before: BeamPaths, turn: TargetTurn, beam_width: int) -> dict[int, BeamPaths]:
    """Return the exact beams by level, of the levels that a turn settled, ascending.

    The last one is told by the target. Those passed on the way are the first it reported of their
    level, with scores rounded to single precision. Levels that were not reported are left out.

    Args:
        before: The exact beams before the turn.
        turn: The turn.
        beam_width: W.
    """
    reached = turn.beams.level
    found: dict[int, BeamPaths] = {}
    if turn.scored is not None and turn.scored.base_level == before.level:
        levels, paths = tree_paths(before, turn.scored)
        scores = turn.scored.cumulative(before.scores)
        for level in range(before.level + 1, reached):
            here = np.flatnonzero(levels == level)
            if len(here):
                here = here[:beam_width]
                by_path = here[np.lexsort(paths[here, :level].T[::-1])]
                found[level] = BeamPaths(level, paths[by_path, :level], scores[by_path])
    if reached > before.level:
        found[reached] = turn.beams
    return found
