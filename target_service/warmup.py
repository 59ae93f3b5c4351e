"""The self-test before the service is ready: one search, computed in several ways."""

from __future__ import annotations

import numpy as np

from specbeam.bundle import BundleError
from specbeam.decoding.beams import Beams
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

    Raises:
        SelfTestError: the answers differ by more than rounding explains.
    """
    width = min(model.bundle.manifest.default_beam_width, model.limits.max_beam_width)
    plain = _search(model, width, Step(1, PlainSteps(model.bundle.trie.depth)))
    exhaustive = _search(model, width, Step(1, RunToEnd()))
    at_once = _search(model, width, Step(1, RunToEnd()), _prefixes(plain, model))
    answers = (plain, exhaustive, at_once)
    if not all(np.isfinite(answer.scores).all() for answer in answers):
        raise SelfTestError(["the target model's scores are not finite"])
    tolerance = _TOLERANCE.get(model.runner.config.dtype)
    if tolerance is None:
        return
    if not (_agree(plain, exhaustive, tolerance) and _agree(plain, at_once, tolerance)):
        raise SelfTestError(["the target model answers one search in two ways on this machine"])


def _search(model: TargetModel, width: int, step: Step, tree: CandidateTree | None = None) -> Beams:
    sent = None if tree is None else VerifyTree(tree)
    request = SearchRequest(empty_prompt(model.bundle), width, model.limits.max_rows, tree=sent)
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
    if not np.allclose(np.sort(first.scores), np.sort(second.scores), rtol=0, atol=tolerance):
        return False
    cut = first.scores.min(initial=0.0) + tolerance
    alone = np.isin(first.nodes, second.nodes, invert=True)
    return bool((first.scores[alone] <= cut).all())
