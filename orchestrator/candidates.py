"""From what every drafter says to the tree that the target verifies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.ports import BeamPaths
from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.drafted_nodes import DraftedNodes
from specbeam.runtime.errors import Internal


class Candidates(Protocol):
    """Makes the trees of one search."""

    @property
    def speaks(self) -> bool:
        """Whether a tree can come of it when no model drafts."""

    @property
    def plans(self) -> bool:
        """Whether no tree means that going on without one is expected to be quicker."""

    @property
    def drafted(self) -> DraftedNodes | None:
        """What was said of the nodes of the last tree; None = nothing is known."""

    def tree(self, beams: BeamPaths, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """Return what to verify below exact beams; None where no tree is of use.

        Args:
            beams: The exact beams.
            proposals: What the model drafters propose below them, by name.
        """

    def settled(self, before: BeamPaths, scored: ScoredTree | None, after: BeamPaths) -> None:
        """Take in a turn of the target, to be learned from later.

        Args:
            before: The exact beams before it.
            scored: What the target scored below them; None = not told.
            after: The exact beams after it.
        """


@dataclass(frozen=True, slots=True)
class RequestCandidates:
    """The union of all drafters for one request.

    Attributes:
        united: The union.
    """

    united: UnitedCandidates

    @property
    def speaks(self) -> bool:
        """See `Candidates`."""
        return self.united.speaks

    @property
    def plans(self) -> bool:
        """See `Candidates`."""
        return self.united.planner is not None

    @property
    def drafted(self) -> DraftedNodes | None:
        """See `Candidates`."""
        return self.united.drafted

    def tree(self, beams: BeamPaths, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """See `Candidates`.

        Raises:
            Internal: The beams are not in the catalogue.
        """
        return self.united.tree(self._beams(beams), proposals)

    def settled(self, before: BeamPaths, scored: ScoredTree | None, after: BeamPaths) -> None:
        """See `Candidates`.

        Raises:
            Internal: The beams are not in the catalogue.
        """
        if self.plans and len(after):
            self.united.settled(self._beams(before), scored, self._beams(after))

    def _beams(self, beams: BeamPaths) -> Beams:
        if not beams.level:
            return Beams.root(self.united.selection)
        return beams_of(self.united.trie, beams)


def beams_of(trie: ItemTrie, beams: BeamPaths) -> Beams:
    """Return beams as nodes of the catalogue.

    Raises:
        Internal: They are not in it.
    """
    if not beams.level:
        return Beams.root()
    try:
        return Beams.from_paths(trie, beams.tokens, beams.scores, beams.ranks)
    except ValueError as error:
        raise Internal() from error
