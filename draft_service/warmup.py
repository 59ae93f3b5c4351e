"""The self-test before the service is ready: one proposal below the root."""

from __future__ import annotations

import numpy as np

from draft_service.model import DraftModel
from draft_service.session import DraftingSession, DraftRequest, Proposal
from specbeam.bundle import BundleError
from specbeam.decoding.beams import Beams
from specbeam.model_service.loading import empty_prompt


class SelfTestError(BundleError):
    """The drafter proposes nothing on this machine."""


def check_proposal(model: DraftModel) -> None:
    """Draft a whole tree below the root; its first level must not be empty.

    Raises:
        SelfTestError: it is, as with weights that are not finite.
    """
    depth = model.bundle.trie.depth
    if depth == 1:
        return  # the last level is never drafted
    prompt = empty_prompt(model.bundle)
    width = min(model.bundle.manifest.default_beam_width, model.limits.max_beam_width)
    session = DraftingSession(model, DraftRequest(prompt, width))
    try:
        session.open()
        session.begin(Proposal(Beams.root(), np.zeros(1, np.int64), 1, depth, width))
        drafted = session.next_level()
        if not len(drafted.tokens):
            raise SelfTestError([f"drafter {model.drafter!r} proposes nothing"])
        while not drafted.last:
            drafted = session.next_level()
    finally:
        session.close()
