"""From what every drafter says to the tree that a target verifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.free_nodes import needs_row
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.shape import mean_fan_outs, wide_levels
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.choosing import TreeEstimate
from specbeam.drafting.drafted_nodes import DraftedNodes
from specbeam.drafting.mixture import WeightedScorer, mix
from specbeam.drafting.planner import TreePlanner
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.registry import LocalDrafter
from specbeam.drafting.sampled import draw_tree
from specbeam.drafting.tree_scorer import TreeScorer
from specbeam.drafting.union import United, unite
from specbeam.drafting.verified import VerifiedTree
from specbeam.drafting.weights import weight_of


@dataclass(slots=True)
class UnitedCandidates:
    """The union of all drafters under one search's row budget.

    Attributes:
        trie: the catalogue.
        score_kind: VOCAB, LEVEL or TRIE.
        beam_width: W.
        max_rows: row budget of a pass, the beams' own rows included.
        drafters: drafters that need no device, by name.
        history: item indices, oldest first.  Shape (n,).
        leaf_filter: which leaves may be returned; None = all.
        pool: verified trees of earlier requests, most alike first.
        alone: make a tree even where no informed drafter speaks.
        planner: chooses the size of trees by expected time; None = the row budget is used up.
        selection: how the target chooses its beams.
        draft_width: nodes drawn per level for the relaxed rule.
        nodes: nodes sent, by the drafter that spoke most for them.
        left_out: nodes of proposals that are not in the trie, below such a node, or there twice.
        drafted: what was said of the nodes of the last tree; None before the first.
    """

    trie: ItemTrie
    score_kind: str
    beam_width: int
    max_rows: int
    drafters: Mapping[str, LocalDrafter]
    history: np.ndarray
    leaf_filter: LeafFilter | None = None
    pool: tuple[VerifiedTree, ...] = ()
    alone: bool = False
    planner: TreePlanner | None = None
    selection: Selection = BY_SCORE
    draft_width: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    drafted: DraftedNodes | None = None
    _speaks: bool | None = None

    @property
    def speaks(self) -> bool:
        """Whether a tree can come of it without a model: some drafter knows this request."""
        if self._speaks is None:
            question = self._question(Beams.root(self.selection))
            self._speaks = any(
                (drafter.informed or self.alone) and drafter.scorer(question) is not None
                for drafter in self.drafters.values()
            )
        return self._speaks

    def tree(self, beams: Beams, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """Return what to verify below exact beams; None where no tree is of use.

        Nobody may know anything, or the planner expects to be quicker without one.  Below levels of
        few children anybody knows enough.

        Args:
            beams: the exact beams.
            proposals: what the model drafters propose below them, by name.
        """
        self.drafted = None
        useful = {name: tree for name, tree in proposals.items() if len(tree)}
        if not useful and not self.speaks and wide_levels(mean_fan_outs(self.trie), beams.level):
            return None
        question = self._question(beams)
        sources = self._sources(question, useful)
        if self.selection.rule == "RELAXED":
            return self._drawn(question, sources)
        united, estimate = self._unite(question, sources)
        if united is None or not len(united.tree):
            return None
        names = tuple(source.name for source in sources)
        self.drafted = DraftedNodes(names, united.sources, united.scores, estimate)
        for number, count in enumerate(np.bincount(united.sources).tolist()):
            self.nodes[names[number]] += count
        return united.tree

    def settled(self, before: Beams, scored: ScoredTree | None, after: Beams) -> None:
        """Take in a turn of the target, for `learn`.

        Args:
            before: the exact beams that the last tree hung from.
            scored: what the target scored below them, all exact beams of the settled levels
                included; None = not told.
            after: the exact beams now.
        """
        if self.planner is not None:
            self.planner.settled(before, scored, after)

    def learn(self) -> None:
        """Learn what became of everything that was looked at; best done behind the answer."""
        if self.planner is not None:
            self.planner.learn()

    def _unite(
        self, question: DraftQuestion, sources: Sequence[WeightedScorer]
    ) -> tuple[United | None, TreeEstimate | None]:
        if self.planner is not None:
            plan = self.planner.plan(question, sources, self.max_rows, self._needs_row)
            if plan is not None:
                return plan.united, plan.estimate
        return unite(question, sources, self.max_rows, self._needs_row), None

    def _drawn(
        self, question: DraftQuestion, sources: Sequence[WeightedScorer]
    ) -> CandidateTree | None:
        """Return a tree drawn from the mixture, with its law: what the relaxed rule verifies."""
        if not sources:
            return None

        def mixture(level: int, nodes: np.ndarray) -> np.ndarray:
            return mix(sources, level, nodes, question).logprobs

        levels = self.trie.depth - 1 - question.beams.level
        tree = draw_tree(question, mixture, self.draft_width, levels, self.selection)
        # Who spoke most for a node says nothing here: nodes are drawn from all together.
        self.nodes["mixture"] += len(tree)
        return tree if len(tree) else None

    def _question(self, beams: Beams) -> DraftQuestion:
        return DraftQuestion(
            self.trie,
            beams,
            self.beam_width,
            self.history,
            self.leaf_filter,
            self.pool,
            self.selection,
        )

    def _sources(
        self, question: DraftQuestion, proposals: Mapping[str, ScoredTree]
    ) -> list[WeightedScorer]:
        """Return the sources that know something, the one to be reserved first."""
        found = []
        for name, tree in proposals.items():
            known = VerifiedTree.join(self.trie, [(question.beams, tree)])
            self.left_out += len(tree) - len(known)
            found.append(WeightedScorer(name, TreeScorer(self.trie, known), weight_of(name)))
        for name, drafter in self.drafters.items():
            scorer = drafter.scorer(question)
            if scorer is not None:
                found.append(WeightedScorer(name, scorer, weight_of(name)))
        return sorted(found, key=lambda source: -source.weight)

    def _needs_row(self, level: int, nodes: np.ndarray) -> np.ndarray:
        return needs_row(self.trie, self.score_kind, level, nodes, self.leaf_filter)
