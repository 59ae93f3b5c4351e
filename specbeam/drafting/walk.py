"""Walking down from the exact beams with the mixed scores of all drafters.

The walk keeps, level by level, the nodes that could be among the target's W best.  Which of them
get a row is decided afterwards (`spending` by a fixed budget, `choosing` by expected time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.decoding.beams import Beams
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
class WalkedLevel:
    """Candidates of one level.

    Attributes:
        nodes: trie nodes, ascending within a parent.  Shape (n,).
        scores: mixed cumulative scores.  Shape (n,).
        excess: score minus the W-th best of the level.  Shape (n,).
        margins: excess in units of its error, no more than the parent's; inf = reserved.
            Shape (n,).
        parents: place of each parent on the level above.  Shape (n,).
        sources: number of the source that speaks most for a node.  Shape (n,), uint8.
        reserved: member of the first source's own beam.  Shape (n,), bool.
        own_scores: the first source's own cumulative scores where reserved.  Shape (n,).
    """

    nodes: np.ndarray
    scores: np.ndarray
    excess: np.ndarray
    margins: np.ndarray
    parents: np.ndarray
    sources: np.ndarray
    reserved: np.ndarray
    own_scores: np.ndarray

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.nodes)

    @classmethod
    def of_beams(cls, beams: Beams) -> WalkedLevel:
        """Return the exact beams as the level to start from."""
        count = len(beams)
        return cls(
            beams.nodes,
            beams.scores,
            np.zeros(count),
            np.full(count, np.inf),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint8),
            np.ones(count, bool),
            beams.scores,
        )


def walk(
    question: DraftQuestion, sources: Sequence[WeightedScorer], widest: int
) -> list[WalkedLevel]:
    """Return the candidates of each level below the beams, the last level excepted.

    Args:
        question: the moment of the search.
        sources: at least one; the first one's own beam is reserved.
        widest: most candidates of a level beside the reserved ones.
    """
    here = WalkedLevel.of_beams(question.beams)
    levels: list[WalkedLevel] = []
    for level in range(question.beams.level, question.trie.depth - 1):
        error = LEVEL_ERROR ** len(levels)
        here = _expand(question, level, here, sources, widest, error)
        if not len(here):
            break
        levels.append(here)
    return levels


def _expand(
    question: DraftQuestion,
    level: int,
    above: WalkedLevel,
    sources: Sequence[WeightedScorer],
    widest: int,
    error: float,
) -> WalkedLevel:
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
    excess = _excess(scores[places], question.width)
    margins = np.where(reserved[places], np.inf, excess / error)
    margins = np.minimum(margins, above.margins[parents])
    # What is below such a node is no more likely than the node.
    kept = margins >= LOWEST_MARGIN
    places, parents, slot = places[kept], parents[kept], slot[kept]
    first = np.asarray(question.trie.levels[level].first_child_of(above.nodes[parents]), np.int64)
    return WalkedLevel(
        first + slot,
        scores[places],
        excess[kept],
        margins[kept],
        parents,
        mixed.sources.ravel()[places],
        reserved[places],
        own[places],
    )


def _excess(scores: np.ndarray, width: int) -> np.ndarray:
    """Return how far scores are above the `width`-th best."""
    if not len(scores):
        return scores
    place = max(0, len(scores) - width)
    above: np.ndarray = scores - np.partition(scores, place)[place]
    return above


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest finite scores, ascending."""
    live = np.flatnonzero(scores > -np.inf)
    if len(live) > count:
        live = np.sort(live[np.argpartition(-scores[live], count - 1)[:count]])
    return live


def row_costs(
    base_level: int, num_beams: int, levels: Sequence[WalkedLevel], needs_row: NodeTest
) -> list[np.ndarray]:
    """Return the rows that each candidate costs, 0 for free ones.

    Free nodes between a row and the row above it need theirs too (see `widen_exhaustively`).

    Args:
        base_level: level of the exact beams.
        num_beams: how many there are.
        levels: the candidates.
        needs_row: which nodes cost a row (see `free_nodes`).

    Returns:
        One array of shape (n,) for each level.
    """
    costs = []
    skipped_above = np.zeros(num_beams, np.int64)
    for number, level in enumerate(levels, start=base_level + 1):
        needed = needs_row(number, level.nodes)
        above = skipped_above[level.parents]
        costs.append(np.where(needed, above + 1, 0))
        skipped_above = np.where(needed, 0, above + 1)
    return costs
