"""The union of all drafters as one tree.

Every source gives log-probabilities of children given their node.  The union mixes them, walks down
from the exact beams with the mixed scores, and gives rows to the nodes most likely to be among the
target's W best of their level, whichever level that is: as many as a budget allows (here), or as
many as are expected to save time (`choosing`).  With a fixed budget

* *likely* is measured by the margin of a node's mixed score over the W-th best of its level, in
  units of the error that the level's scores usually have;
* the W-beam of the first source is reserved before anything else (K-consistent drafting): a source
  equal to the target is accepted whole, whatever the others say.

Source: the N-to-K condition is AtSpeed's (arXiv 2410.05165); mixing, margins and the reservation
across sources are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.shape import mean_fan_outs, rows_per_node
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.mixture import WeightedScorer
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.walk import NodeTest, WalkedLevel, row_costs, walk

__all__ = ["United", "empty_union", "number_tree", "unite"]


@dataclass(frozen=True, slots=True)
class United:
    """A tree for the target, and where its nodes come from.

    Attributes:
        tree: level after level, most likely first within a level.
        sources: for each node the number of the source that speaks most for it.  Shape (n,), uint8.
        rows: rows the tree costs, the beams' own rows not included.
        scores: mixed cumulative score of each node.  Shape (n,), float64.
    """

    tree: CandidateTree
    sources: np.ndarray
    rows: int
    scores: np.ndarray


def empty_union(base_level: int) -> United:
    """Return a tree without nodes."""
    nothing = np.zeros(0, np.int64)
    tree = CandidateTree(base_level, nothing, nothing)
    return United(tree, np.zeros(0, np.uint8), 0, np.zeros(0))


def unite(
    question: DraftQuestion,
    sources: Sequence[WeightedScorer],
    max_rows: int,
    needs_row: NodeTest,
) -> United:
    """Spend a fixed row budget on the tree to verify below the exact beams.

    Where no source goes as deep as level L - 1, rows are left for the target to take the thin
    levels below whole.

    Args:
        question: the moment of the search.
        sources: the first one's own beam is reserved; none = an empty tree.
        max_rows: row budget of the pass, the beams' own rows included.
        needs_row: which nodes cost a row (see `free_nodes`).
    """
    beams, trie = question.beams, question.trie
    # A free beam has a row, too, as soon as something below it has one.
    budget = max_rows - (len(beams) if beams.level else 0)
    levels = []
    if sources and budget > 0 and len(beams):
        levels = walk(question, sources, budget)
    if not levels:
        return empty_union(beams.level)
    complete = beams.level + len(levels) == trie.depth - 1
    if not complete:
        budget = int(budget / rows_per_node(mean_fan_outs(trie), beams.level + len(levels)))
    costs = row_costs(beams.level, len(beams), levels, needs_row)
    chosen = _spend(levels, costs, budget)
    return number_tree(question, levels, chosen, costs, complete=complete)


def _spend(
    levels: Sequence[WalkedLevel], costs: Sequence[np.ndarray], budget: int
) -> list[np.ndarray]:
    """Spend the budget, most likely nodes first; a node never comes before its parent.

    Returns:
        A mask over the nodes of each level.
    """
    sizes = [len(level) for level in levels]
    cost = np.concatenate(costs)
    depth = np.repeat(np.arange(len(levels)), sizes)
    order = np.lexsort((depth, -np.concatenate([level.margins for level in levels])))
    chosen = np.zeros(len(order), bool)
    chosen[order[np.cumsum(cost[order]) <= budget]] = True
    return np.split(chosen, np.cumsum(sizes)[:-1])


def number_tree(
    question: DraftQuestion,
    levels: Sequence[WalkedLevel],
    chosen: Sequence[np.ndarray],
    costs: Sequence[np.ndarray],
    *,
    complete: bool,
) -> United:
    """Number chosen nodes as one tree; a node whose parent was not chosen is left out.

    Args:
        question: the moment of the search.
        levels: the candidates.
        chosen: a mask over the candidates of each level.
        costs: rows of each candidate.
        complete: nothing is to be added by the target.
    """
    beams, trie = question.beams, question.trie
    above, offset, rows = np.arange(len(beams)), len(beams), 0
    parents, tokens, sources, scores = [], [], [], []
    for number, (level, mask, cost) in enumerate(
        zip(levels, chosen, costs, strict=True), beams.level + 1
    ):
        places = np.flatnonzero(mask & (above[level.parents] >= 0))
        places = places[np.lexsort((level.nodes[places], -level.margins[places]))]
        parents.append(above[level.parents[places]])
        tokens.append(_tokens(trie, number, level.nodes[places]))
        sources.append(level.sources[places])
        scores.append(level.scores[places])
        rows += int(cost[places].sum())
        above = np.full(len(level), -1)
        above[places] = offset + np.arange(len(places))
        offset += len(places)
    tree = CandidateTree(
        beams.level, np.concatenate(parents), np.concatenate(tokens), complete=complete
    )
    return United(tree, np.concatenate(sources), rows, np.concatenate(scores))


def _tokens(trie: ItemTrie, level: int, nodes: np.ndarray) -> np.ndarray:
    tokens: np.ndarray = trie.levels[level].tokens_of(nodes).astype(np.int64)
    return tokens
