"""Deciding levels by any selection rule, on the host.  numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.noise import child_keys, prefix_keys
from specbeam.decoding.reporting import ScoredChildren
from specbeam.decoding.rules import RULES, Chosen, Continuations, best
from specbeam.decoding.selection import Selection

# Log-probabilities (-inf where dead) and tokens of the children of ascending nodes of a level, each
# of shape (n, C_d); None where one of the nodes is neither scored nor free.
Children = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


@dataclass(frozen=True, slots=True)
class RuledWalk:
    """How far a walk may go, and how it chooses.

    Attributes:
        trie: the catalogue.
        selection: the rule.
        width: W.
        laws: what the nodes of the pass were drawn from.
        report: most nodes of a decided level that are reported, at least W; 0 = none.
    """

    trie: ItemTrie
    selection: Selection
    width: int
    laws: DraftLaws
    report: int = 0

    def run(self, beams: Beams, children: Children) -> tuple[Beams, list[ScoredChildren]]:
        """Decide levels until a beam is neither scored nor free, or the rule stops.

        Args:
            beams: exact beams of level j < L.
            children: what is known of a level's nodes.

        Returns:
            The deepest beams, and what is to be reported of each level passed.
        """
        trie, rule = self.trie, RULES[self.selection.rule]
        level, nodes, scores, ranks = beams.level, beams.nodes, beams.scores, beams.rank_values
        keys = prefix_keys(self.selection.seed, beams.paths(trie))
        found: list[ScoredChildren] = []
        go_on = True
        while go_on and level < trie.depth and len(nodes):
            known = children(level, nodes)
            if known is None:
                break
            first = np.asarray(trie.levels[level].first_child_of(nodes), np.int64)
            law = self.laws.get(level)
            continuations = Continuations(
                known[0] + scores[:, None],
                ranks,
                self.width,
                None if law is None else law.of(nodes, first),
            )
            of_children = child_keys(keys, known[1])
            chosen = rule.choose(continuations, rule.noise(of_children))
            if self.report and level + 1 < trie.depth:
                found.append(_reported(continuations.scores, known[0], first, chosen, self.report))
            parent, slot = np.divmod(chosen.positions, known[0].shape[1])
            nodes, keys = first[parent] + slot, of_children.ravel()[chosen.positions]
            scores, ranks, go_on = chosen.scores, chosen.ranks, chosen.go_on
            level += 1
        kept = ranks if self.selection.perturbs else None
        return Beams(level, nodes, scores, kept), found


def _reported(
    scores: np.ndarray, logprobs: np.ndarray, first: np.ndarray, chosen: Chosen, count: int
) -> ScoredChildren:
    """The chosen children, and beside them those with the best scores."""
    values = scores.ravel().copy()
    values[chosen.positions] = np.inf
    told = best(values, count)
    values[chosen.positions] = chosen.ranks
    parents, slot = np.divmod(told, logprobs.shape[1])
    among = np.isin(told, chosen.positions)
    nodes = first[parents] + slot
    return ScoredChildren(parents, nodes, values[told], logprobs.ravel()[told], among)
