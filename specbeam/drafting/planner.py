"""The trees of one search, chosen by expected time, and what is learned from their fate."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree, node_of_each
from specbeam.drafting.choosing import (
    LevelChances,
    TreeEstimate,
    choose_tree,
    just_covered,
    level_chances,
)
from specbeam.drafting.coverage import Calibration
from specbeam.drafting.mixture import WeightedScorer
from specbeam.drafting.prices import SearchPrices
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.union import United, number_tree
from specbeam.drafting.walk import NodeTest, WalkedLevel, row_costs, walk

# Candidates looked at on a level, and of these gone on from, per beam and at least: few trees that
# pay have more, and looking takes time.
_PER_BEAM, _FEWEST = 16, 48
_GROWING_PER_BEAM, _FEWEST_GROWING = 6, 16
# Share of the looks that are taken where no tree was worth it lately.
_LOOKS = 0.1
_RNG = random.Random()
_NO_NODES = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next.

    Attributes:
        united: the tree to verify; None = going on without one is expected to be quicker.
        estimate: what is expected of it, or of the best one there was.
    """

    united: United | None
    estimate: TreeEstimate


@dataclass(frozen=True, slots=True)
class _Asked:
    """The candidates of the last plan, whose fate the target will tell."""

    base_level: int
    levels: Sequence[WalkedLevel]
    chances: Sequence[LevelChances]
    needs_row: NodeTest


@dataclass(frozen=True, slots=True)
class _Told:
    """What a turn said of the candidates of a plan."""

    asked: _Asked
    before: Beams
    scored: ScoredTree | None
    after: Beams


class TreePlanner:
    """Plans the trees of one search."""

    def __init__(
        self,
        trie: ItemTrie,
        width: int,
        calibration: Calibration,
        prices: SearchPrices,
        kind: Hashable = None,
        *,
        always: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare for one search.

        Args:
            trie: the catalogue.
            width: W.
            calibration: what is known of coverage; learns from this search.
            prices: what time costs in it.
            kind: sets searches apart whose scores cannot be compared.
            always: take the best tree even where going on without one is expected to be quicker.
            rng: decides whether to look where looking was in vain.
        """
        self._trie, self._width = trie, width
        self._calibration, self._prices, self._kind = calibration, prices, kind
        self._always, self._rng = always, rng or _RNG
        self._told: list[_Told] = []
        self._asked: _Asked | None = None
        # Nodes that have a row at the target, ascending, by level.
        self._in_place: dict[int, np.ndarray] = {}

    def plan(
        self,
        question: DraftQuestion,
        sources: Sequence[WeightedScorer],
        max_rows: int,
        needs_row: NodeTest,
    ) -> Plan | None:
        """Return the tree that is expected to be quickest below exact beams.

        Nodes with a row from an earlier round cost nothing: only what was missed is drafted anew.

        Args:
            question: the moment of the search.
            sources: the first one's own beam is reserved.
            max_rows: row budget of the pass, the beams' own rows included.
            needs_row: which nodes cost a row.

        Returns:
            None when this cannot be planned, since the sources do not reach level L - 1.
        """
        beams, trie = question.beams, self._trie
        self._asked = None
        room = max_rows - (len(beams) if beams.level else 0)
        if not sources or room <= 0 or not len(beams):
            return None
        names = tuple(source.name for source in sources)
        coverage = self._calibration.model(self._width, names, self._kind)
        if not self._always and coverage.hopeless(beams.level) and self._rng.random() > _LOOKS:
            plain_ms = float(self._prices.plain_ms()[beams.level])
            return Plan(None, TreeEstimate(plain_ms, plain_ms, ()))
        widest = min(room, max(_FEWEST, _PER_BEAM * self._width))
        growing = max(_FEWEST_GROWING, _GROWING_PER_BEAM * self._width)
        levels = walk(question, sources, widest, growing)
        if not levels or beams.level + len(levels) != trie.depth - 1:
            return None
        whole = row_costs(beams.level, len(beams), levels, needs_row)
        costs = [
            np.where(self._held(number, level.nodes), 0, cost)
            for number, (level, cost) in enumerate(zip(levels, whole, strict=True), beams.level + 1)
        ]
        chances = level_chances(beams.level, levels, costs, coverage)
        self._asked = _Asked(beams.level, levels, chances, needs_row)
        own, again = self._own_rows(beams, needs_row), self._again(beams.level, levels)
        prices = self._prices.at(beams.level, own)
        # Whatever is missed is drafted again, which is quicker than going on plainly.
        shares = [
            coverage.share_of_plain(level) if level > beams.level else 1.0
            for level in range(trie.depth + 1)
        ]
        prices = replace(prices, plain_ms=prices.plain_ms * shares)
        budget = room + own - again
        choice = choose_tree(beams.level, levels, chances, budget, prices, some=self._always)
        estimate = choice.estimate
        coverage.learn_share(beams.level, estimate.ms / max(estimate.plain_ms, 1e-9))
        if not choice.worthwhile and not self._always:
            return Plan(None, choice.estimate)
        united = number_tree(question, levels, choice.masks, costs, complete=True)
        self._remember(beams, united.tree, own)
        return Plan(united, choice.estimate)

    def settled(self, before: Beams, scored: ScoredTree | None, after: Beams) -> None:
        """Keep what `learn` is to learn; see `UnitedCandidates.settled`."""
        asked, self._asked = self._asked, None
        if asked is not None and before.level == asked.base_level:
            self._told.append(_Told(asked, before, scored, after))

    def learn(self) -> None:
        """Learn what became of the candidates of all plans; best done behind the answer."""
        told, self._told = self._told, []
        for one in told:
            self._learn(one.asked, one.before, one.scored, one.after)

    def _learn(self, asked: _Asked, before: Beams, scored: ScoredTree | None, after: Beams) -> None:
        best = {} if scored is None else best_nodes(self._trie, before, scored, self._width)
        best[after.level] = after.nodes
        for number, (level, part) in enumerate(
            zip(asked.levels, asked.chances, strict=True), asked.base_level + 1
        ):
            if number > after.level or number not in best:
                break
            truth = best[number]
            _learn_level(level, part, truth[asked.needs_row(number, truth)])

    def _held(self, level: int, nodes: np.ndarray) -> np.ndarray:
        known = self._in_place.get(level)
        if known is None:
            return np.zeros(len(nodes), bool)
        held: np.ndarray = np.isin(nodes, known)
        return held

    def _again(self, base_level: int, levels: Sequence[WalkedLevel]) -> int:
        """Candidates that have a row already; the target counts them in a tree's budget."""
        return sum(
            int(self._held(number, level.nodes).sum())
            for number, level in enumerate(levels, base_level + 1)
        )

    def _own_rows(self, beams: Beams, needs_row: NodeTest) -> int:
        """Rows that the next pass has whatever the tree."""
        if not beams.level:
            return 0
        needed = needs_row(beams.level, beams.nodes) & ~self._held(beams.level, beams.nodes)
        return int(needed.sum())

    def _remember(self, beams: Beams, tree: CandidateTree, own: int) -> None:
        """Keep which nodes will have a row after this tree."""
        nodes, level = node_of_each(self._trie, beams, tree)
        added = {int(depth): nodes[level == depth] for depth in np.unique(level)}
        if own:
            added[beams.level] = beams.nodes
        for depth, new in added.items():
            self._in_place[depth] = np.union1d(self._in_place.get(depth, _NO_NODES), new)


def best_nodes(
    trie: ItemTrie, before: Beams, scored: ScoredTree, width: int
) -> dict[int, np.ndarray]:
    """Return the exact beams of every level that a target told of: it tells them first.

    Args:
        trie: the catalogue.
        before: beams the scored nodes hang from.
        scored: the nodes.
        width: W.
    """
    nodes, level = node_of_each(
        trie, before, CandidateTree(scored.base_level, scored.parents, scored.tokens)
    )
    return {
        depth: nodes[np.flatnonzero(level == depth)[:width]]
        for depth in np.unique(level[level > 0]).tolist()
    }


def _learn_level(level: WalkedLevel, part: LevelChances, truth: np.ndarray) -> None:
    """Learn from one settled level which candidates are among the target's best.

    Args:
        level: its candidates.
        part: those that cost rows.
        truth: the target's best nodes, without free ones.  Shape (W',).
    """
    best = np.isin(level.nodes, truth)
    paid = part.order
    part.known.learn(level.sources[paid], level.reserved[paid], level.excess[paid], best[paid])
    part.known.learn_mass(just_covered(part, best, len(truth) - int(best.sum())))
