"""Whether a widened target is the small one, in fp32: transformers' logits, the engine's beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from specbeam.benchmark.widening.fit import WideningError
from specbeam.benchmark.widening.target import WideTarget
from specbeam.bundle import Bundle
from specbeam.decoding.beams import Beams
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel, SearchSpec, plain_search
from specbeam.engine.transformers_adapter import load_causal_lm
from specbeam.model_service.loading import open_search

# fp32 noise is about 1e-5; leaving any correction of the construction out makes at least 5e-3.
LOGIT_BOUND = 1e-4
# Two scores closer than this may change places in fp32.
SCORE_NOISE = 5e-5


@dataclass(frozen=True, slots=True)
class SameFunction:
    """How far a widened target is from the small one, in fp32.

    Attributes:
        prompts: how many were compared.
        beam_width: W of the searches.
        logit_difference: largest one, at any position of the prompts.
        same_beams: searches with the same items in the same order.
        score_difference: largest one between the beams of a rank.
    """

    prompts: int
    beam_width: int
    logit_difference: float
    same_beams: int
    score_difference: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under their names."""
        return asdict(self)

    def require(self) -> None:
        """Stop unless the two are the same function.

        Raises:
            WideningError: a difference is larger than rounding explains.
        """
        if not self.logit_difference <= LOGIT_BOUND:
            raise WideningError(
                f"logits differ by {self.logit_difference:.1e}, more than {LOGIT_BOUND:.0e}"
            )
        if not self.score_difference <= SCORE_NOISE:
            raise WideningError(
                f"only {self.same_beams} of {self.prompts} searches give the same beams, scores"
                f" differ by {self.score_difference:.1e}"
            )


def compare(
    bundle: Bundle,
    target: WideTarget,
    prompts: Sequence[np.ndarray],
    beam_width: int = 20,
    device: str = "cpu",
) -> SameFunction:
    """Compare a bundle's target with its widened form, before weights are rounded for storage.

    Args:
        bundle: with the small target.
        target: the wide one.
        prompts: vocabulary ids, each of shape (P,).
        beam_width: W.
        device: where the wide one is built and run.
    """
    dtype = torch.float32
    small, wide = load_causal_lm(bundle.target_dir, dtype), target.build(dtype, device)
    difference = max(
        float((_logits(small, prompt, "cpu") - _logits(wide, prompt, device)).abs().max())
        for prompt in prompts
    )
    # The engine takes the models apart: logits come first.
    searches = _open(bundle, small, "cpu"), _open(bundle, wide, device)
    same, largest = 0, 0.0
    for prompt in prompts:
        ours, theirs = (_ranked(search, prompt, beam_width) for search in searches)
        same += bool(np.array_equal(ours.nodes, theirs.nodes))
        largest = max(largest, float(np.abs(ours.scores - theirs.scores).max()))
    return SameFunction(len(prompts), beam_width, difference, same, largest)


@torch.inference_mode()
def _logits(model: PreTrainedModel, prompt: np.ndarray, device: str) -> torch.Tensor:
    ids = torch.from_numpy(np.asarray(prompt, np.int64))[None].to(device)
    logits: torch.Tensor = model(ids).logits.cpu()
    return logits


def _open(bundle: Bundle, model: PreTrainedModel, device: str) -> SearchModel:
    config = RunnerConfig(
        device=device,
        slots=1,
        max_prompt_tokens=bundle.max_prompt_tokens,
        max_rows=256,
        max_item_tokens=bundle.trie.depth,
    )
    return open_search(bundle, ModelRunner(model, config))


def _ranked(search: SearchModel, prompt: np.ndarray, beam_width: int) -> Beams:
    """Final beams, best first."""
    beams = plain_search(search, SearchSpec(prompt, beam_width)).beams
    order = np.lexsort((beams.nodes, -beams.scores))
    return Beams(beams.level, beams.nodes[order], beams.scores[order])
