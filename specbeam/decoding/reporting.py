"""What a target has scored on the way to its exact beams, told as one tree a pass.

Of every level decided in a pass, the last of an item excepted, the best live children of the exact
beams of the level above are told.  At least W of them, so the exact beams are among them and the
parents of the next level's nodes are in the tree.  Where a rule other than the score chose the
beams, they come before better children that were not chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree, node_of_each


@dataclass(frozen=True, slots=True)
class ScoredChildren:
    """Live children of the exact beams of one level, in ascending node order.

    Attributes:
        parents: which live beam of the level above, in ascending node order.  Shape (n,), int64.
        nodes: trie nodes.  Shape (n,), int64.
        scores: the values they are told in order of, the best first: cumulative log-probabilities,
            of beams their ranks.  Shape (n,), float64.
        logprobs: log-probabilities given the parent.  Shape (n,).
        chosen: which of them are the level's exact beams; they are told first.  None = the best W.
            Shape (n,), bool.
    """

    parents: np.ndarray
    nodes: np.ndarray
    scores: np.ndarray
    logprobs: np.ndarray
    chosen: np.ndarray | None = None


def join_scored(
    trie: ItemTrie, beams: Beams, width: int, levels: list[ScoredChildren]
) -> ScoredTree | None:
    """Number the scored children of consecutive levels as one tree, best first within a level.

    Args:
        trie: the catalogue.
        beams: exact beams the first level hangs from.
        width: W.
        levels: children of the exact beams of each level from `beams.level` on.

    Returns:
        The tree; None when there are no levels.
    """
    if not levels:
        return None
    # Number in the tree of each live beam of the level above.
    above, count = np.arange(len(beams)), len(beams)
    parents, tokens, logprobs = [], [], []
    for level, found in enumerate(levels, start=beams.level + 1):
        best = np.argsort(-found.scores, kind="stable")
        if found.chosen is not None:
            best = best[np.argsort(~found.chosen[best], kind="stable")]
        parents.append(above[found.parents[best]])
        tokens.append(trie.levels[level].tokens_of(found.nodes[best]))
        logprobs.append(found.logprobs[best])
        # The first W are the level's exact beams; in ascending order they are those of `found`.
        above = count + np.argsort(best[:width])
        count += len(best)
    return ScoredTree(
        beams.level,
        np.concatenate(parents),
        np.concatenate(tokens).astype(np.int64),
        np.concatenate(logprobs).astype(np.float32),
    )


def chain_scored(trie: ItemTrie, seen: Sequence[tuple[Beams, ScoredTree]]) -> ScoredTree:
    """Join what consecutive passes scored to one tree below the beams before the first.

    Args:
        trie: the catalogue.
        seen: the beams before each pass and what was scored below them, at least one.  The beams of
            all but the first are among the nodes scored before.
    """
    before, first = seen[0]
    parents, tokens, logprobs = [first.parents], [first.tokens], [first.logprobs]
    nodes, levels = _nodes_of(trie, before, first)
    for beams, tree in seen[1:]:
        offset = len(before) + len(nodes)
        here = np.flatnonzero(levels == beams.level)
        order = here[np.argsort(nodes[here])]
        of_beams = len(before) + order[np.searchsorted(nodes[order], beams.nodes)]
        of_rows = offset + np.arange(len(tree))
        parents.append(np.concatenate([of_beams, of_rows])[tree.parents])
        tokens.append(tree.tokens)
        logprobs.append(tree.logprobs)
        added, at = _nodes_of(trie, beams, tree)
        nodes, levels = np.concatenate([nodes, added]), np.concatenate([levels, at])
    return ScoredTree(before.level, *map(np.concatenate, (parents, tokens, logprobs)))


def _nodes_of(trie: ItemTrie, beams: Beams, tree: ScoredTree) -> tuple[np.ndarray, np.ndarray]:
    return node_of_each(trie, beams, CandidateTree(tree.base_level, tree.parents, tree.tokens))
