"""The union of all drafters under one row budget.

Every source gives log-probabilities of children given their node.  The union mixes them, walks down
from the exact beams with the mixed scores, and spends the rows of a pass on the nodes most likely
to be among the target's W best of their level, whichever level that is:

* *likely* is measured by the margin of a node's mixed score over the W-th best of its level, in
  units of the error that the level's scores usually have;
* the W-beam of the first source is reserved before anything else (K-consistent drafting): a source
  equal to the target is accepted whole, whatever the others say.

Source: the N-to-K condition is AtSpeed's (arXiv 2410.05165); mixing, margins and the reservation
across sources are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.mixture import WeightedScorer, mix
from specbeam.drafting.question import DraftQuestion

# The error of a score grows by this factor from level to level.  Of 0.8, 1.0, 1.3 and 1.7, the last
# two covered most (150 validation users, Beauty); see docs/drafters.md.
LEVEL_ERROR = 1.5
# Nodes this far below the W-th best of their level get no row even where there is room: rows cost,
# and on the same users none of them was missed.
LOWEST_MARGIN = -2.0

# A question about nodes of one level: (level, nodes (n,)) -> (n,) bool.
NodeTest = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class United:
    """A tree for the target, and where its nodes come from.

    Attributes:
        tree: level after level, most likely first within a level.
        sources: for each node the number of the source that speaks most for it.  Shape (n,), uint8.
        rows: rows the tree costs, the beams' own rows not included.
    """

    tree: CandidateTree
    sources: np.ndarray
    rows: int


@dataclass(frozen=True, slots=True)
class _Level:
    """Candidates of one level.

    Attributes:
        nodes: trie nodes.  Shape (n,).
        scores: mixed cumulative scores.  Shape (n,).
        parents: place of each parent on the level above.  Shape (n,).
        sources: as in `United`.  Shape (n,).
        reserved: member of the first source's own beam.  Shape (n,), bool.
        own_scores: the first source's own cumulative scores where reserved.  Shape (n,).
    """

    nodes: np.ndarray
    scores: np.ndarray
    parents: np.ndarray
    sources: np.ndarray
    reserved: np.ndarray
    own_scores: np.ndarray


def unite(
    question: DraftQuestion,
    sources: Sequence[WeightedScorer],
    max_rows: int,
    needs_row: NodeTest,
) -> United:
    """Choose the tree to verify below the exact beams.

    Args:
        question: the moment of the search.
        sources: the first one's own beam is reserved; none = an empty tree.
        max_rows: row budget of the pass, the beams' own rows included.
        needs_row: which nodes cost a row (see `free_nodes`).
    """
    beams, trie = question.beams, question.trie
    own_rows = int(needs_row(beams.level, beams.nodes).sum()) if beams.level else 0
    budget = max_rows - own_rows
    if not sources or budget <= 0 or not len(beams):
        return _empty(beams.level)
    levels = _walk(question, sources, budget)
    if not levels:
        return _empty(beams.level)
    return _choose(trie, beams.level, len(beams), question.width, levels, budget, needs_row)


def _walk(question: DraftQuestion, sources: Sequence[WeightedScorer], widest: int) -> list[_Level]:
    """Return the candidates of each level below the beams, the last level excepted."""
    trie, beams = question.trie, question.beams
    count = len(beams)
    everything = np.ones(count, bool)
    here = _Level(
        beams.nodes,
        beams.scores,
        np.zeros(count, np.int64),
        np.zeros(count, np.uint8),
        everything,
        beams.scores,
    )
    levels = []
    for level in range(beams.level, trie.depth - 1):
        below = _expand(question, level, here, sources, widest)
        if not len(below.nodes):
            break
        levels.append(below)
        here = below
    return levels


def _expand(
    question: DraftQuestion,
    level: int,
    above: _Level,
    sources: Sequence[WeightedScorer],
    widest: int,
) -> _Level:
    mixed = mix(sources, level, above.nodes, question)
    scores = above.scores[:, None] + mixed.logprobs
    width = scores.shape[1]
    flat = scores.ravel()
    own = np.where(above.reserved, above.own_scores, -np.inf)[:, None] + mixed.first
    own = own.ravel()
    reserved = np.zeros(len(flat), bool)
    reserved[_best(own, question.width)] = True
    chosen = np.union1d(_best(flat, widest), np.flatnonzero(reserved))
    parents, slot = np.divmod(chosen, width)
    first = np.asarray(question.trie.levels[level].first_child_of(above.nodes[parents]), np.int64)
    return _Level(
        first + slot,
        flat[chosen],
        parents,
        mixed.sources.ravel()[chosen],
        reserved[chosen],
        own[chosen],
    )


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest finite scores, ascending."""
    live = np.flatnonzero(scores > -np.inf)
    if len(live) > count:
        live = np.sort(live[np.argpartition(-scores[live], count - 1)[:count]])
    return live


def _choose(
    trie: ItemTrie,
    base_level: int,
    num_beams: int,
    width: int,
    levels: list[_Level],
    budget: int,
    needs_row: NodeTest,
) -> United:
    """Spend the budget, most likely nodes first; a node never comes before its parent."""
    margins, costs, depth = [], [], []
    margin_above = np.full(num_beams, np.inf)
    skipped_above = np.zeros(num_beams, np.int64)
    error = 1.0
    for number, level in enumerate(levels, start=base_level + 1):
        rank = min(width, len(level.scores))
        threshold = np.partition(level.scores, len(level.scores) - rank)[len(level.scores) - rank]
        margin = np.where(level.reserved, np.inf, (level.scores - threshold) / error)
        margin = np.minimum(margin, margin_above[level.parents])
        needed = needs_row(number, level.nodes)
        above = skipped_above[level.parents]
        margins.append(margin)
        # Free nodes between a row and the row above it need theirs too (see `widen_exhaustively`).
        costs.append(np.where(needed, above + 1, 0))
        depth.append(np.full(len(margin), number))
        margin_above, skipped_above = margin, np.where(needed, 0, above + 1)
        error *= LEVEL_ERROR
    flat_depth, cost, margin = map(np.concatenate, (depth, costs, margins))
    order = np.lexsort((flat_depth, -margin))
    order = order[margin[order] >= LOWEST_MARGIN]
    taken = order[np.cumsum(cost[order]) <= budget]
    chosen = np.zeros(len(margin), bool)
    chosen[taken] = True
    return _tree(base_level, num_beams, trie, levels, margins, chosen, int(cost[taken].sum()))


def _tree(
    base_level: int,
    num_beams: int,
    trie: ItemTrie,
    levels: list[_Level],
    margins: list[np.ndarray],
    chosen: np.ndarray,
    rows: int,
) -> United:
    parents, tokens, sources = [], [], []
    number_above, offset, start = np.arange(num_beams), num_beams, 0
    for number, (level, margin) in enumerate(zip(levels, margins, strict=True), base_level + 1):
        kept = chosen[start : start + len(margin)] & (number_above[level.parents] >= 0)
        start += len(margin)
        places = np.flatnonzero(kept)
        places = places[np.lexsort((level.nodes[places], -margin[places]))]
        parents.append(number_above[level.parents[places]])
        tokens.append(trie.levels[number].tokens_of(level.nodes[places]).astype(np.int64))
        sources.append(level.sources[places])
        number_above = np.full(len(margin), -1)
        number_above[places] = offset + np.arange(len(places))
        offset += len(places)
    tree = CandidateTree(base_level, np.concatenate(parents), np.concatenate(tokens), complete=True)
    return United(tree, np.concatenate(sources), rows)


def _empty(base_level: int) -> United:
    nothing = np.zeros(0, np.int64)
    return United(CandidateTree(base_level, nothing, nothing), np.zeros(0, np.uint8), 0)
