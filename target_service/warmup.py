"""The self-test before the service is ready: one search, computed in several ways."""

from __future__ import annotations

import numpy as np

from specbeam.bundle import BundleError
from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.tree import CandidateTree
from specbeam.model_service.loading import empty_prompt
from target_service.model import TargetModel
from target_service.session import (
    PlainSteps,
    RunToEnd,
    SearchRequest,
    Step,
    TargetSession,
    VerifyTree,
)

# Largest difference of two scores of the same search computed with other row counts.
_TOLERANCE = {"fp64": 1e-5, "fp32": 1e-3}


class SelfTestError(BundleError):
    """The model gives two answers to one question on this machine."""


def check_search(model: TargetModel) -> None:
    """Run one search plainly, with exhaustive rows, and from a tree beside the prompt.

    Once by score and once with noise.

    Raises:
        SelfTestError: the answers differ by more than rounding explains.
    """
    for selection in (BY_SCORE, Selection("GUMBEL", seed=1)):
        _check_selection(model, selection)


def _check_selection(model: TargetModel, selection: Selection) -> None:
    width = min(model.bundle.manifest.default_beam_width, model.limits.max_beam_width)
    steps, to_end = Step(1, PlainSteps(model.bundle.trie.depth)), Step(1, RunToEnd())
    plain = _search(model, width, selection, steps)
    exhaustive = _search(model, width, selection, to_end)
    at_once = _search(model, width, selection, to_end, _prefixes(plain, model))
    answers = (plain, exhaustive, at_once)
    if not all(np.isfinite(answer.scores).all() for answer in answers):
        raise SelfTestError(["the target model's scores are not finite"])
    tolerance = _TOLERANCE.get(model.runner.config.dtype)
    if tolerance is None:
        return
    if not (_agree(plain, exhaustive, tolerance) and _agree(plain, at_once, tolerance)):
        raise SelfTestError(["the target model answers one search in two ways on this machine"])


def _search(
    model: TargetModel,
    width: int,
    selection: Selection,
    step: Step,
    tree: CandidateTree | None = None,
) -> Beams:
    request = SearchRequest(
        empty_prompt(model.bundle),
        width,
        model.limits.max_rows,
        tree=None if tree is None else VerifyTree(tree),
        selection=selection,
    )
    session = TargetSession(model, request)
    try:
        session.open()
        return session.advance(step).turn.beams
    finally:
        session.close()


def _prefixes(beams: Beams, model: TargetModel) -> CandidateTree:
    """Each beam as a branch of its own below the root; what they share occurs several times."""
    paths = beams.paths(model.bundle.trie)[:, :-1]
    count, levels = paths.shape
    numbers = np.arange(count * levels).reshape(levels, count)
    parents = np.concatenate([np.zeros((min(levels, 1), count), np.int64), numbers[:-1] + 1])
    return CandidateTree(0, parents.ravel(), paths.T.ravel().astype(np.int64))


def _agree(first: Beams, second: Beams, tolerance: float) -> bool:
    """Whether two answers are equal but for rounding; only beams at the cut may be swapped."""
    if len(first) != len(second):
        return False
    ranks = first.rank_values
    if not np.allclose(np.sort(ranks), np.sort(second.rank_values), rtol=0, atol=tolerance):
        return False
    cut = ranks.min(initial=np.inf) + tolerance
    alone = np.isin(first.nodes, second.nodes, invert=True)
    return bool((ranks[alone] <= cut).all())
