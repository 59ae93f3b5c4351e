"""Trees drawn at random, with the law they were drawn from, for the relaxed rule.

Best-first trees are of no use there: that rule accepts a node by the ratio of the target's law to
the law the node was drawn from, so nodes must have been drawn and the law must come along.

Source: AtSpeed's draft for relaxed sampling verification (arXiv 2410.05165); drawing without
replacement by the largest perturbed scores is the Gumbel-top-k trick (arXiv 1903.06059).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.free_nodes import alive_children
from specbeam.decoding.laws import shaped_law
from specbeam.decoding.noise import child_keys, gumbels, prefix_keys
from specbeam.decoding.rules.choice import best
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.question import ChildScorer, DraftQuestion


def draw_tree(
    question: DraftQuestion,
    scorer: ChildScorer,
    draft_width: int,
    levels: int,
    selection: Selection,
) -> CandidateTree:
    """Draw a tree below the exact beams, level by level.

    Each level is `draft_width` draws without replacement from one law over all children of the
    level above: the softmax of their cumulative scores.  The last level of an item is never drawn.

    Args:
        question: the moment of the search.
        scorer: the drafter's log-probabilities of children.  What it gives a node's children is
            normalised over those that the filter leaves, after temperature and top-k.
        draft_width: N, nodes drawn per level.
        levels: most levels drawn.
        selection: names the seed, the temperature and top-k.

    Returns:
        A complete tree with its child scores; nodes of a level in the order drawn.
    """
    trie, base = question.trie, question.beams.level
    above = _Drawn.of_beams(question.beams, trie, selection)
    offset, number = 0, len(question.beams)
    parents, tokens = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    told = [np.zeros(0, np.float32)]
    for level in range(base, min(base + levels, trie.depth - 1)):
        scores = above.scores[:, None] + _law(question, scorer, level, above.nodes, selection)
        places, drawn = _draw(trie, level, above, scores, draft_width)
        if not len(places):
            break
        told.append(_told(trie, level, above.nodes, scores))
        parents.append(places + offset)
        tokens.append(trie.levels[level + 1].tokens_of(drawn.nodes).astype(np.int64))
        offset, number = number, number + len(places)
        above = drawn
    return CandidateTree(
        base,
        np.concatenate(parents),
        np.concatenate(tokens),
        complete=True,
        child_scores=np.concatenate(told),
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Nodes of one level to go on from.

    Attributes:
        nodes: trie nodes, in the order drawn.  Shape (n,), int64.
        scores: the drafter's cumulative log-probabilities.  Shape (n,).
        keys: of the noise below each.  Shape (n,), uint64.
    """

    nodes: np.ndarray
    scores: np.ndarray
    keys: np.ndarray

    @classmethod
    def of_beams(cls, beams: Beams, trie: ItemTrie, selection: Selection) -> _Drawn:
        """Return the exact beams as the level to start from."""
        return cls(beams.nodes, beams.scores, prefix_keys(selection.seed, beams.paths(trie)))


def _law(
    question: DraftQuestion,
    scorer: ChildScorer,
    level: int,
    nodes: np.ndarray,
    selection: Selection,
) -> np.ndarray:
    """Log-probabilities of the children of nodes, normalised.  Shape (n, C)."""
    alive = alive_children(question.trie, level, nodes, question.leaf_filter)
    # An only child is certain, whatever the drafter knows.
    known = np.where(alive.sum(axis=1, keepdims=True) == 1, 0.0, scorer(level, nodes))
    return shaped_law(np.where(alive, known, -np.inf), selection)


def _draw(
    trie: ItemTrie, level: int, above: _Drawn, scores: np.ndarray, count: int
) -> tuple[np.ndarray, _Drawn]:
    """Draw children without replacement: their parents' places in `above`, and themselves."""
    below = trie.levels[level + 1]
    first = np.asarray(trie.levels[level].first_child_of(above.nodes), np.int64)
    children = first[:, None] + np.arange(scores.shape[1])
    keys = child_keys(above.keys, below.tokens_of(np.minimum(children, below.num_nodes - 1)))
    perturbed = (scores + gumbels(keys, "draft")).ravel()
    drawn = best(perturbed, count)
    drawn = drawn[np.argsort(-perturbed[drawn], kind="stable")]
    found = _Drawn(children.ravel()[drawn], scores.ravel()[drawn], keys.ravel()[drawn])
    return drawn // scores.shape[1], found


def _told(trie: ItemTrie, level: int, nodes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The scores of all the catalogue's children of nodes, one after the other.  Shape (m,)."""
    above = trie.levels[level]
    sizes = np.asarray(above.first_child_of(nodes + 1)) - above.first_child_of(nodes)
    there = np.arange(scores.shape[1]) < sizes[:, None]
    told: np.ndarray = scores[there].astype(np.float32)
    return told
