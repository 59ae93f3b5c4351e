"""From what every drafter says to the tree that a target verifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.free_nodes import needs_row
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.drafted_nodes import DraftedNodes
from specbeam.drafting.mixture import WeightedScorer
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.registry import LocalDrafter
from specbeam.drafting.tree_scorer import TreeScorer
from specbeam.drafting.union import unite
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
    nodes: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    drafted: DraftedNodes | None = None
    _speaks: bool | None = None

    @property
    def speaks(self) -> bool:
        """Whether a tree can come of it without a model: some drafter knows this request."""
        if self._speaks is None:
            question = self._question(Beams.root())
            self._speaks = any(
                (drafter.informed or self.alone) and drafter.scorer(question) is not None
                for drafter in self.drafters.values()
            )
        return self._speaks

    def tree(self, beams: Beams, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """Return what to verify below exact beams; None where nobody knows anything.

        Args:
            beams: the exact beams.
            proposals: what the model drafters propose below them, by name.
        """
        useful = {name: tree for name, tree in proposals.items() if len(tree)}
        if not useful and not self.speaks:
            return None
        question = self._question(beams)
        sources = self._sources(question, useful)
        united = unite(question, sources, self.max_rows, self._needs_row)
        names = tuple(source.name for source in sources)
        self.drafted = DraftedNodes(names, united.sources, united.scores)
        for number, count in enumerate(np.bincount(united.sources).tolist()):
            self.nodes[names[number]] += count
        return united.tree if len(united.tree) else None

    def _question(self, beams: Beams) -> DraftQuestion:
        return DraftQuestion(
            self.trie, beams, self.beam_width, self.history, self.leaf_filter, self.pool
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
