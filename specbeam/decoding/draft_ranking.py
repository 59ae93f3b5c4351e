"""How a drafter ranks the nodes it may propose: as the target's search will.  numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft import Frontier, Perturbed, propose_level
from specbeam.decoding.laws import shaped_law
from specbeam.decoding.noise import child_keys, conditional_ranks, gumbels, prefix_keys
from specbeam.decoding.selection import Selection


@dataclass(frozen=True, slots=True)
class DraftRanking:
    """The catalogue and the selection of a search.

    Where the target's beams are perturbed, the drafter's nodes get the very noise that the target
    gives them, below the very ranks of the exact beams: only the two laws differ.  Drafts for the
    relaxed rule are ranked by score.

    Attributes:
        trie: the catalogue.
        selection: how the target chooses.
    """

    trie: ItemTrie
    selection: Selection

    def start(self, beams: Beams) -> Frontier:
        """Return the exact beams as the level to draft from."""
        everyone = np.ones(len(beams), bool)
        if not self.selection.perturbs:
            return Frontier(beams.nodes, beams.scores, everyone)
        if beams.level == 0:
            beams = Beams.root(self.selection)
        keys = prefix_keys(self.selection.seed, beams.paths(self.trie))
        return Frontier(beams.nodes, beams.scores, everyone, beams.rank_values, keys)

    def next_level(
        self,
        level: int,
        frontier: Frontier,
        logprobs: np.ndarray,
        beam_width: int,
        max_nodes: int,
    ) -> tuple[Frontier, np.ndarray, np.ndarray]:
        """Pick the next level; see `propose_level`.

        Args:
            level: level of the frontier.
            frontier: nodes to go on from.  N' of them.
            logprobs: the drafter's own law of their children, -inf where dead.  Shape (N', C_d).
            beam_width: W.
            max_nodes: N.

        Returns:
            The next frontier, best first; for each of its nodes the index of its parent in
            `frontier`, and the drafter's log-probability given the parent, which temperature and
            top-k leave as it is.
        """
        first = np.asarray(self.trie.levels[level].first_child_of(frontier.nodes), np.int64)
        children = first[:, None] + np.arange(logprobs.shape[1])
        law = logprobs
        if self.selection.shapes_laws:
            law = shaped_law(logprobs, self.selection)
        perturbed = self._perturbed(level, frontier, children, law)
        following, parents = propose_level(
            frontier, children, law, beam_width, max_nodes, perturbed
        )
        return following, parents, logprobs[parents, following.nodes - first[parents]]

    def _perturbed(
        self, level: int, frontier: Frontier, children: np.ndarray, law: np.ndarray
    ) -> Perturbed | None:
        if frontier.ranks is None or frontier.keys is None:
            return None
        below = self.trie.levels[level + 1]
        keys = child_keys(frontier.keys, below.tokens_of(np.minimum(children, below.num_nodes - 1)))
        scores = frontier.scores[:, None] + law
        return Perturbed(conditional_ranks(frontier.ranks, scores, gumbels(keys)), keys)
