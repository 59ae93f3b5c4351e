"""The self-test before the service is ready: one search, computed in two ways."""

from __future__ import annotations

import numpy as np

from specbeam.bundle import BundleError
from specbeam.decoding.beams import Beams
from specbeam.model_service.loading import empty_prompt
from target_service.model import TargetModel
from target_service.session import PlainSteps, RunToEnd, SearchRequest, Step, TargetSession

# Largest difference of two scores of the same search computed with other row counts.
_TOLERANCE = {"fp64": 1e-5, "fp32": 1e-3}


class SelfTestError(BundleError):
    """The model gives two answers to one question on this machine."""


def check_search(model: TargetModel) -> None:
    """Run one search plainly and once more with exhaustive rows; the answers must be equal.

    Raises:
        SelfTestError: they differ by more than rounding explains.
    """
    width = min(model.bundle.manifest.default_beam_width, model.limits.max_beam_width)
    plain = _search(model, width, Step(1, PlainSteps(model.bundle.trie.depth)))
    exhaustive = _search(model, width, Step(1, RunToEnd()))
    if not (np.isfinite(plain.scores).all() and np.isfinite(exhaustive.scores).all()):
        raise SelfTestError(["the target model's scores are not finite"])
    tolerance = _TOLERANCE.get(model.runner.config.dtype)
    if tolerance is not None and not _agree(plain, exhaustive, tolerance):
        raise SelfTestError(["the target model answers one search in two ways on this machine"])


def _search(model: TargetModel, width: int, step: Step) -> Beams:
    prompt = empty_prompt(model.bundle)
    session = TargetSession(model, SearchRequest(prompt, width, model.limits.max_rows))
    try:
        session.open()
        return session.advance(step).turn.beams
    finally:
        session.close()


def _agree(first: Beams, second: Beams, tolerance: float) -> bool:
    """Whether two answers are equal but for rounding; only beams at the cut may be swapped."""
    if len(first) != len(second):
        return False
    if not np.allclose(np.sort(first.scores), np.sort(second.scores), rtol=0, atol=tolerance):
        return False
    cut = first.scores.min(initial=0.0) + tolerance
    alone = np.isin(first.nodes, second.nodes, invert=True)
    return bool((first.scores[alone] <= cut).all())
