"""Looking on while a search runs: nothing that watches can change it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.ports import BeamPaths, PlainSteps, RunToEnd, SessionSpec, Step, TargetTurn
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.drafted_nodes import DraftedNodes

if TYPE_CHECKING:  # These know the search, which knows this module.
    from orchestrator.bundles import Serving
    from orchestrator.filtering import RequestFilter

now_ns = time.monotonic_ns
"""CLOCK_MONOTONIC, nanoseconds: the clock of forward passes."""


class SearchWatch:
    """Is told what happens in one search; this one does not listen.

    Attributes:
        report_nodes: Most nodes per level whose scores the target is asked for on its account; 0 =
            none.
        stepwise: Whether the target is to answer level by level where it could go to the end in
            one call.
    """

    report_nodes: int = 0
    stepwise: bool = False

    def prepared(self, serving: Serving, chosen: RequestFilter, spec: SessionSpec) -> None:
        """The history was read, the filter compiled and the prompt made."""

    def tree(
        self,
        beams: BeamPaths,
        tree: CandidateTree,
        drafted: DraftedNodes | None,
    ) -> None:
        """A tree is about to be sent.

        Args:
            beams: The exact beams it hangs from.
            tree: The tree.
            drafted: What the drafters say of its nodes; None = nothing is known.
        """

    def turn(self, before: BeamPaths, turn: TargetTurn, step: str) -> None:
        """The target answered.

        Args:
            before: The exact beams before the turn.
            turn: The turn.
            step: How it was asked: "prompt", "tree", "plain" or "run".
        """

    def span(self, name: str, start_ns: int) -> None:
        """Something that began at `start_ns` (CLOCK_MONOTONIC) has just ended."""


UNWATCHED = SearchWatch()
"""Nobody looks on."""


class Watches(SearchWatch):
    """Several watches as one."""

    def __init__(self, watches: Sequence[SearchWatch]) -> None:
        """Pass everything on to each of `watches`, in order."""
        self._watches = tuple(watches)
        self.report_nodes = max(watch.report_nodes for watch in self._watches)
        self.stepwise = any(watch.stepwise for watch in self._watches)

    def prepared(self, serving: Serving, chosen: RequestFilter, spec: SessionSpec) -> None:
        """See `SearchWatch`."""
        for watch in self._watches:
            watch.prepared(serving, chosen, spec)

    def tree(
        self,
        beams: BeamPaths,
        tree: CandidateTree,
        drafted: DraftedNodes | None,
    ) -> None:
        """See `SearchWatch`."""
        for watch in self._watches:
            watch.tree(beams, tree, drafted)

    def turn(self, before: BeamPaths, turn: TargetTurn, step: str) -> None:
        """See `SearchWatch`."""
        for watch in self._watches:
            watch.turn(before, turn, step)

    def span(self, name: str, start_ns: int) -> None:
        """See `SearchWatch`."""
        for watch in self._watches:
            watch.span(name, start_ns)


def step_name(then: Step | None) -> str:
    """Return what a step is called; None = the prompt alone."""
    if then is None:
        return "prompt"
    if isinstance(then, PlainSteps):
        return "plain"
    return "run" if isinstance(then, RunToEnd) else "tree"
