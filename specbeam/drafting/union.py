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
from specbeam.decoding.beams import Beams
from specbeam.decoding.shape import mean_fan_outs, rows_per_node
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.mixture import WeightedScorer, mix
from specbeam.drafting.question import DraftQuestion

# The error of a score grows by this factor from level to level.  Of 0.8, 1.0, 1.3 and 1.7, the last
# two covered most (150 validation users, Beauty); see docs/drafters.md.
LEVEL_ERROR = 1.5
# Nodes this far below the W-th best of their level get no row even where there is room: rows cost.
# On Beauty -2 lost nothing (the same users) and halved the rows of an easy catalogue; drafters that
# know a catalogue less well need more.
LOWEST_MARGIN = -4.0

# A question about nodes of one level: (level, nodes (n,)) -> (n,) bool.
NodeTest = Callable[[int, np.ndarray], np.ndarray]


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


@dataclass(frozen=True, slots=True)
class _Level:
    """Candidates of one level.

    Attributes:
        nodes: trie nodes, ascending within a parent.  Shape (n,).
        scores: mixed cumulative scores.  Shape (n,).
        margins: how likely they are, no more than their parents; inf = reserved.  Shape (n,).
        parents: place of each parent on the level above.  Shape (n,).
        sources: as in `United`.  Shape (n,).
        reserved: member of the first source's own beam.  Shape (n,), bool.
        own_scores: the first source's own cumulative scores where reserved.  Shape (n,).
    """

    nodes: np.ndarray
    scores: np.ndarray
    margins: np.ndarray
    parents: np.ndarray
    sources: np.ndarray
    reserved: np.ndarray
    own_scores: np.ndarray

    @classmethod
    def of_beams(cls, beams: Beams) -> _Level:
        """Return the exact beams as the level to start from."""
        count = len(beams)
        return cls(
            beams.nodes,
            beams.scores,
            np.full(count, np.inf),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint8),
            np.ones(count, bool),
            beams.scores,
        )


def unite(
    question: DraftQuestion,
    sources: Sequence[WeightedScorer],
    max_rows: int,
    needs_row: NodeTest,
) -> United:
    """Choose the tree to verify below the exact beams.

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
        levels = _walk(question, sources, budget)
    if not levels:
        nothing = np.zeros(0, np.int64)
        return United(
            CandidateTree(beams.level, nothing, nothing), np.zeros(0, np.uint8), 0, np.zeros(0)
        )
    complete = beams.level + len(levels) == trie.depth - 1
    if not complete:
        budget = int(budget / rows_per_node(mean_fan_outs(trie), beams.level + len(levels)))
    chosen, rows = _choose(beams.level, len(beams), levels, budget, needs_row)
    tree, places = _tree(trie, beams.level, len(beams), levels, chosen, complete=complete)
    spoken = np.concatenate([level.sources for level in levels])[places]
    scores = np.concatenate([level.scores for level in levels])[places]
    return United(tree, spoken, rows, scores)


def _walk(question: DraftQuestion, sources: Sequence[WeightedScorer], widest: int) -> list[_Level]:
    """Return the candidates of each level below the beams, the last level excepted."""
    here = _Level.of_beams(question.beams)
    levels: list[_Level] = []
    for level in range(question.beams.level, question.trie.depth - 1):
        error = LEVEL_ERROR ** len(levels)
        here = _expand(question, level, here, sources, widest, error)
        if not len(here.nodes):
            break
        levels.append(here)
    return levels


def _expand(
    question: DraftQuestion,
    level: int,
    above: _Level,
    sources: Sequence[WeightedScorer],
    widest: int,
    error: float,
) -> _Level:
    """Return the children worth a row of one level's candidates."""
    mixed = mix(sources, level, above.nodes, question)
    width = mixed.logprobs.shape[1]
    scores = (above.scores[:, None] + mixed.logprobs).ravel()
    own = np.where(above.reserved, above.own_scores, -np.inf)[:, None] + mixed.first
    own = own.ravel()
    reserved = np.zeros(len(scores), bool)
    reserved[_best(own, question.width)] = True
    places = np.union1d(_best(scores, max(widest, question.width)), np.flatnonzero(reserved))
    parents, slot = np.divmod(places, width)
    margins = _margins(scores[places], reserved[places], question.width, error)
    margins = np.minimum(margins, above.margins[parents])
    # What is below such a node is no more likely than the node.
    kept = margins >= LOWEST_MARGIN
    places, parents, slot, margins = places[kept], parents[kept], slot[kept], margins[kept]
    first = np.asarray(question.trie.levels[level].first_child_of(above.nodes[parents]), np.int64)
    return _Level(
        first + slot,
        scores[places],
        margins,
        parents,
        mixed.sources.ravel()[places],
        reserved[places],
        own[places],
    )


def _margins(scores: np.ndarray, reserved: np.ndarray, width: int, error: float) -> np.ndarray:
    """Return how far scores are above the `width`-th best, in units of their error."""
    if not len(scores):
        return scores
    place = max(0, len(scores) - width)
    threshold = np.partition(scores, place)[place]
    return np.where(reserved, np.inf, (scores - threshold) / error)


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest finite scores, ascending."""
    live = np.flatnonzero(scores > -np.inf)
    if len(live) > count:
        live = np.sort(live[np.argpartition(-scores[live], count - 1)[:count]])
    return live


def _choose(
    base_level: int, num_beams: int, levels: list[_Level], budget: int, needs_row: NodeTest
) -> tuple[np.ndarray, int]:
    """Spend the budget, most likely nodes first; a node never comes before its parent.

    Returns:
        A mask over the nodes of all levels, and the rows they cost.
    """
    costs = []
    skipped_above = np.zeros(num_beams, np.int64)
    for number, level in enumerate(levels, start=base_level + 1):
        needed = needs_row(number, level.nodes)
        above = skipped_above[level.parents]
        # Free nodes between a row and the row above it need theirs too (see `widen_exhaustively`).
        costs.append(np.where(needed, above + 1, 0))
        skipped_above = np.where(needed, 0, above + 1)
    cost = np.concatenate(costs)
    depth = np.repeat(np.arange(len(levels)), [len(level.nodes) for level in levels])
    order = np.lexsort((depth, -np.concatenate([level.margins for level in levels])))
    taken = order[np.cumsum(cost[order]) <= budget]
    chosen = np.zeros(len(order), bool)
    chosen[taken] = True
    return chosen, int(cost[taken].sum())


def _tree(
    trie: ItemTrie,
    base_level: int,
    num_beams: int,
    levels: list[_Level],
    chosen: np.ndarray,
    *,
    complete: bool,
) -> tuple[CandidateTree, np.ndarray]:
    """Number the chosen nodes; also return their places among all candidates."""
    parents, tokens, order = [], [], []
    number_above, offset, start = np.arange(num_beams), num_beams, 0
    for number, level in enumerate(levels, base_level + 1):
        count = len(level.nodes)
        kept = chosen[start : start + count] & (number_above[level.parents] >= 0)
        places = np.flatnonzero(kept)
        places = places[np.lexsort((level.nodes[places], -level.margins[places]))]
        parents.append(number_above[level.parents[places]])
        tokens.append(trie.levels[number].tokens_of(level.nodes[places]).astype(np.int64))
        order.append(start + places)
        number_above = np.full(count, -1)
        number_above[places] = offset + np.arange(len(places))
        offset, start = offset + len(places), start + count
    tree = CandidateTree(
        base_level, np.concatenate(parents), np.concatenate(tokens), complete=complete
    )
    return tree, np.concatenate(order)
