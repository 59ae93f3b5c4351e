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
    def drafted(self) -> DraftedNodes | None:
        """What was said of the nodes of the last tree; None = nothing is known."""

    def tree(self, beams: BeamPaths, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """Return what to verify below exact beams; None where nobody knows anything.

        Args:
            beams: The exact beams.
            proposals: What the model drafters propose below them, by name.
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
    def drafted(self) -> DraftedNodes | None:
        """See `Candidates`."""
        return self.united.drafted

    def tree(self, beams: BeamPaths, proposals: Mapping[str, ScoredTree]) -> CandidateTree | None:
        """See `Candidates`.

        Raises:
            Internal: The beams are not in the catalogue.
        """
        return self.united.tree(beams_of(self.united.trie, beams), proposals)


def beams_of(trie: ItemTrie, beams: BeamPaths) -> Beams:
    """Return beams as nodes of the catalogue.

    Raises:
        Internal: They are not in it.
    """
    if not beams.level:
        return Beams.root()
    try:
        return Beams.from_paths(trie, beams.tokens, beams.scores)
    except ValueError as error:
        raise Internal() from error
