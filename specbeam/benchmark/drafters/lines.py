"""The ways to draft that are compared, and one search in such a way."""

from __future__ import annotations

from dataclasses import dataclass

from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.settings import COLD, Setting
from specbeam.benchmark.speculation import Outcome, Speculation
from specbeam.decoding.shape import DraftShape
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.ways import PLAIN, Flow, Way
from specbeam.engine import BeamSession

# The published scheme: a draft beam of 40 on every level from the root on.
PUBLISHED_NODES = 40


@dataclass(frozen=True, slots=True)
class Line:
    """One way to draft.

    Attributes:
        name: shown.
        sources: drafters.
        one_pass: draft below the root instead of the exact first level.
        published: the plain wide beam of one model, no union, no whole levels.
    """

    name: str
    sources: tuple[str, ...]
    one_pass: bool = False
    published: bool = False

    @property
    def way(self) -> Way:
        """How the target is driven."""
        return Way(Flow.ONE_PASS if self.one_pass else Flow.ROOT_FIRST, use_model=True)


class PublishedSearch(Speculation):
    """The published scheme: what one model's wide beam holds is verified, and nothing else."""

    # Reserving the whole wide beam is the same as reserving nothing.
    draft_beam_width = PUBLISHED_NODES

    def _propose(
        self, session: BeamSession, way: Way, candidates: UnitedCandidates
    ) -> CandidateTree | None:
        tree = self._ask(session.beams, DraftShape(self._trie.depth, PUBLISHED_NODES))
        return CandidateTree(tree.base_level, tree.parents, tree.tokens, complete=True)


def search_line(
    models: DraftModels, case: DraftCase, line: Line | None, width: int, max_rows: int
) -> Outcome:
    """Answer one request, from a cold prompt.

    Args:
        models: what to run.
        case: the request.
        line: how to draft; None = not at all (A1).
        width: K = W.
        max_rows: row budget of a pass.
    """
    if line is None:
        return Speculation(models, case, Setting(width, COLD, max_rows, ())).run(PLAIN)
    search = PublishedSearch if line.published else Speculation
    return search(models, case, Setting(width, COLD, max_rows, line.sources)).run(line.way)
