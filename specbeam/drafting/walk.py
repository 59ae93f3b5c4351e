"""Walking down from the exact beams with the mixed scores of all drafters.

The walk keeps, level by level, the nodes that could be among the target's W best.  Which of them
get a row is decided afterwards (`union` by a fixed budget, `choosing` by expected time).

Where the target orders its beams by noise, the walk adds the same noise: it is a function of the
seed and the prefix, and so known to both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.decoding.laws import shaped_law
from specbeam.decoding.noise import child_keys, conditional_ranks, gumbels, prefix_keys
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
        ranks: the values the target would order them by, were these its scores.  Shape (n,).
        excess: rank minus the W-th best of the level.  Shape (n,).
        margins: excess in units of its error, no more than the parent's; inf = reserved.
            Shape (n,).
        parents: place of each parent on the level above.  Shape (n,).
        sources: number of the source that speaks most for a node.  Shape (n,), uint8.
        reserved: member of the first source's own beam.  Shape (n,), bool.
        own: the first source's own scores and ranks, of use where reserved.  Shape (2, n).
        keys: of the noise below each node; None without noise.  Shape (n,), uint64.
    """

    nodes: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    excess: np.ndarray
    margins: np.ndarray
    parents: np.ndarray
    sources: np.ndarray
    reserved: np.ndarray
    own: np.ndarray
    keys: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.nodes)

    def among(self, places: np.ndarray) -> WalkedLevel:
        """Return some of the candidates, in the order given."""
        return WalkedLevel(
            self.nodes[places],
            self.scores[places],
            self.ranks[places],
            self.excess[places],
            self.margins[places],
            self.parents[places],
            self.sources[places],
            self.reserved[places],
            self.own[:, places],
            None if self.keys is None else self.keys[places],
        )

    @classmethod
    def of_beams(cls, question: DraftQuestion) -> WalkedLevel:
        """Return the exact beams as the level to start from."""
        beams = question.beams
        count, seed = len(beams), question.selection.seed
        ranks = beams.rank_values
        return cls(
            beams.nodes,
            beams.scores,
            ranks,
            np.zeros(count),
            np.full(count, np.inf),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint8),
            np.ones(count, bool),
            np.stack([beams.scores, ranks]),
            prefix_keys(seed, beams.paths(question.trie)) if question.selection.perturbs else None,
        )


def walk(
    question: DraftQuestion,
    sources: Sequence[WeightedScorer],
    widest: int,
    growing: int | None = None,
) -> list[WalkedLevel]:
    """Return the candidates of each level below the beams, the last level excepted.

    Args:
        question: the moment of the search.
        sources: at least one; the first one's own beam is reserved.
        widest: most candidates of a level beside the reserved ones.
        growing: most candidates of a level that are gone on from, the best ones; None = all.
    """
    here = WalkedLevel.of_beams(question)
    levels: list[WalkedLevel] = []
    for level in range(question.beams.level, question.trie.depth - 1):
        error = LEVEL_ERROR ** len(levels)
        here = _expand(question, level, here, sources, widest, error, growing)
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
    growing: int | None,
) -> WalkedLevel:
    """Return the children worth a row of one level's candidates."""
    whole = None
    if growing is not None and len(above) > growing:
        whole = np.sort(np.argpartition(-above.ranks, growing - 1)[:growing])
        above = above.among(whole)
    mixed = mix(sources, level, above.nodes, question)
    noise = _Noise.below(question, level, above)
    scores, ranks = noise.added(question, mixed.logprobs, above.scores, above.ranks)
    reserved_above = np.where(above.reserved, above.own, -np.inf)
    own = np.stack(noise.added(question, mixed.first, *reserved_above))
    width = mixed.logprobs.shape[1]
    reserved = np.zeros(len(scores), bool)
    reserved[_best(own[1], question.width)] = True
    places = np.union1d(_best(ranks, max(widest, question.width)), np.flatnonzero(reserved))
    excess = _excess(ranks[places], question.width)
    margins = np.where(reserved[places], np.inf, excess / error)
    margins = np.minimum(margins, above.margins[places // width])
    # What is below such a node is no more likely than the node.
    kept = margins >= LOWEST_MARGIN
    places = places[kept]
    parents, slot = np.divmod(places, width)
    first = np.asarray(question.trie.levels[level].first_child_of(above.nodes[parents]), np.int64)
    return WalkedLevel(
        first + slot,
        scores[places],
        ranks[places],
        excess[kept],
        margins[kept],
        parents if whole is None else whole[parents],
        mixed.sources.ravel()[places],
        reserved[places],
        own[:, places],
        None if noise.keys is None else noise.keys.ravel()[places],
    )


@dataclass(frozen=True, slots=True)
class _Noise:
    """Noise of the children of one level's nodes.

    Attributes:
        keys: of the children's own noise; None without noise.  Shape (n, C), uint64.
        gumbels: shape (n, C); None without noise.
    """

    keys: np.ndarray | None = None
    gumbels: np.ndarray | None = None

    @classmethod
    def below(cls, question: DraftQuestion, level: int, above: WalkedLevel) -> _Noise:
        if above.keys is None:
            return cls()
        here, below = question.trie.levels[level], question.trie.levels[level + 1]
        first = np.asarray(here.first_child_of(above.nodes), np.int64)
        children = first[:, None] + np.arange(here.max_children)
        keys = child_keys(above.keys, below.tokens_of(np.minimum(children, below.num_nodes - 1)))
        return cls(keys, gumbels(keys))

    def added(
        self,
        question: DraftQuestion,
        logprobs: np.ndarray,
        scores: np.ndarray,
        ranks: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return cumulative scores and ranks of children.  Two arrays of shape (n * C,).

        Args:
            question: names the rule.
            logprobs: of the children given their nodes.  Shape (n, C).
            scores: of the nodes.  Shape (n,).
            ranks: of the nodes.  Shape (n,).
        """
        if question.selection.draws:
            logprobs = shaped_law(logprobs, question.selection)
        of_children = scores[:, None] + logprobs
        if self.gumbels is None:
            found = of_children.ravel()
            return found, found
        perturbed = conditional_ranks(ranks, of_children, self.gumbels)
        return of_children.ravel(), perturbed.ravel()


def _excess(ranks: np.ndarray, width: int) -> np.ndarray:
    """Return how far values are above the `width`-th best."""
    if not len(ranks):
        return ranks
    place = max(0, len(ranks) - width)
    above: np.ndarray = ranks - np.partition(ranks, place)[place]
    return above


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest finite values, ascending."""
    live = np.flatnonzero(values > -np.inf)
    if len(live) > count:
        live = np.sort(live[np.argpartition(-values[live], count - 1)[:count]])
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
