"""One request's exact beam search on one KV slot, driven turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws, draft_laws
from specbeam.decoding.expansion import NO_LAWS
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.tree import CandidateTree, ResolvedTree, resolve_tree, widen_exhaustively
from specbeam.engine.row_scorer import RowScorer
from specbeam.engine.search_model import SearchModel

__all__ = ["BeamSession", "RowScorer", "SearchModel", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a session did.

    Attributes:
        beams: exact beams now.
        passes: forward passes run.
        rows: tree rows computed, beams' own rows included, prompt rows not.
        prompt_rows: prompt rows computed.
        accepted_levels: levels decided beyond one per pass.
        dropped_nodes: drafted nodes that were not usable.
        scored: the beams before each pass and what was scored below them, as far as the session
            reports it.
    """

    beams: Beams
    passes: int = 0
    rows: int = 0
    prompt_rows: int = 0
    accepted_levels: int = 0
    dropped_nodes: int = 0
    scored: tuple[tuple[Beams, ScoredTree], ...] = ()

    def then(self, later: Turn) -> Turn:
        """Add up two consecutive turns."""
        return Turn(
            later.beams,
            self.passes + later.passes,
            self.rows + later.rows,
            self.prompt_rows + later.prompt_rows,
            self.accepted_levels + later.accepted_levels,
            self.dropped_nodes + later.dropped_nodes,
            self.scored + later.scored,
        )


class BeamSession:
    """The target's side: exact beams, advanced by plain steps or by verifying candidate trees.

    Winners come only from the trie expansion of the current exact beams, so nothing a drafter sends
    can change the answer, by score or with noise.  Only under the relaxed rule drafts matter.
    """

    def __init__(
        self,
        model: SearchModel,
        beam_width: int,
        leaf_filter: LeafFilter | None = None,
        report_nodes: int = 0,
        selection: Selection = BY_SCORE,
    ) -> None:
        """Lease a slot.

        Args:
            model: the target.
            beam_width: W.
            leaf_filter: excluded leaves, or None.
            report_nodes: most nodes of a decided level that a turn reports in `scored`; less than W
                counts as W, 0 = none.
            selection: how beams are chosen.

        Raises:
            NoFreeSlotError: none is free.
            ValueError: the selection draws items and scores are no law over items.
        """
        self._trie = model.expansion.trie
        self._width = beam_width
        self._report = max(report_nodes, beam_width) if report_nodes else 0
        self._selection = selection
        self._scorer = RowScorer(model, leaf_filter, selection)
        self.beams = Beams.root(selection)

    @property
    def finished(self) -> bool:
        """Whether the last level is decided (or nothing is left alive)."""
        return self.beams.level == self._trie.depth or not len(self.beams)

    @property
    def root_hidden(self) -> torch.Tensor:
        """The target's hidden state after the prompt, once it was run.  Shape (1, hidden)."""
        return self._scorer.root_hidden

    def close(self) -> None:
        """Give the slot back; may be called twice."""
        self._scorer.close()

    def open(
        self,
        prompt: np.ndarray,
        resume: Beams | None = None,
        tree: CandidateTree | None = None,
        max_rows: int = 0,
        held: int = 0,
    ) -> Turn:
        """Run the prompt and decide level 1, or stand at the beams of an earlier session.

        Args:
            prompt: vocabulary ids.  Shape (P,).
            resume: exact beams of a level >= 1, in ascending node order.
            tree: nodes drafted below the root, to be verified in the prompt's own pass; an empty
                one leaves the exhaustive levels alone.  Not together with `resume`.
            max_rows: row budget of that pass.
            held: leading tokens of the prompt whose keys and values the slot holds already.

        Raises:
            ValueError: there are both a tree and beams to resume, or these have no ranks where
                noise makes them.
        """
        if resume is not None and resume.level:
            if tree is not None:
                raise ValueError("a tree below the root cannot go with beams to resume")
            resume = self._resumable(resume)
            self._scorer.prefill(prompt, held=held)
            self.beams = resume
            return Turn(resume, passes=1, prompt_rows=len(prompt) - held)
        resolved = ResolvedTree() if tree is None else resolve_tree(self._trie, self.beams, tree)
        levels, laws = {}, NO_LAWS
        if tree is not None:
            laws = self._laws(tree)
            levels = self._widen(resolved, max_rows, complete=tree.complete)
        rows = self._scorer.prefill(prompt, levels, held)
        return self._decide(1, rows, resolved.dropped, laws, prompt_rows=len(prompt) - held)

    def _resumable(self, beams: Beams) -> Beams:
        """Beams with ranks exactly where the selection makes some."""
        if not self._selection.perturbs:
            return replace(beams, ranks=None)
        if beams.ranks is None:
            raise ValueError("beams to resume need their ranks")
        return beams

    def _laws(self, tree: CandidateTree) -> DraftLaws:
        """What a tree was drawn from, for the rule that asks."""
        if self._selection.rule != "RELAXED":
            return NO_LAWS
        return draft_laws(self._trie, self.beams, tree)

    def plain_step(self) -> Turn:
        """Decide one level with one row per beam (plain beam search), and free ones behind it."""
        return self._advance({}, dropped=0, laws=NO_LAWS)

    def advance(self, tree: CandidateTree, max_rows: int) -> Turn:
        """Verify a candidate tree in one pass; at least one level is decided.

        Args:
            tree: drafted nodes; an empty one leaves the exhaustive levels alone.
            max_rows: row budget of the pass, the beams' own rows included.
        """
        if self.finished:
            return Turn(self.beams, dropped_nodes=len(tree))
        self._scorer.forget_unrelated(self.beams)
        resolved = resolve_tree(self._trie, self.beams, tree)
        levels = self._widen(resolved, max_rows - len(self.beams), complete=tree.complete)
        return self._advance(levels, resolved.dropped, self._laws(tree))

    def _widen(
        self, resolved: ResolvedTree, budget: int, *, complete: bool
    ) -> dict[int, np.ndarray]:
        """The rows to run below the beams: drafted and exhaustive ones within the budget."""
        own = len(self.beams) * self.beams.level  # rows of the beams and, at worst, their ancestors
        return widen_exhaustively(
            self._trie,
            self.beams,
            resolved.levels,
            min(budget, self._scorer.room - own),
            self._scorer.alive,
            self._scorer.needs_row,
            complete=complete,
        )

    def _advance(self, levels: dict[int, np.ndarray], dropped: int, laws: DraftLaws) -> Turn:
        if self.finished:
            return Turn(self.beams, dropped_nodes=dropped)
        before = self.beams.level
        own = self.beams.nodes[self._scorer.needs_row(before, self.beams.nodes)]
        if self._scorer.room < len(own) * before:
            # Only reached without a tree: then the beams' rows are all that is needed.
            self._scorer.forget_unrelated(self.beams, below=False)
        rows = self._scorer.add_rows({before: own, **levels} if len(own) else levels)
        return self._decide(int(rows > 0), rows, dropped, laws)

    def _decide(
        self, passes: int, rows: int, dropped: int, laws: DraftLaws, prompt_rows: int = 0
    ) -> Turn:
        """Take every level that is settled after these passes."""
        before = self.beams
        verified = self._scorer.verify(before, self._width, self._report, laws)
        self.beams = verified.beams
        return Turn(
            self.beams,
            passes,
            rows,
            prompt_rows,
            accepted_levels=verified.levels - passes,
            dropped_nodes=dropped,
            scored=() if verified.scored is None else ((before, verified.scored),),
        )
