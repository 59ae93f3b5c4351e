"""Whether a draft can be aligned with this bundle on this dataset, and its models."""

import json
import re
from typing import cast

import torch
from torch import nn

from specbeam.bundle import Bundle
from specbeam.engine.support import check_context
from specbeam.engine.transformers_adapter import load_causal_lm
from specbeam.training.alignment.config import AlignmentConfig
from specbeam.training.alignment.prompt_source import shows_codes_only
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.model import TRAINING_ATTENTION, build_model
from specbeam.training.presets import ModelShape

SCRATCH = "scratch"
DEFAULT_DRAFTER = "default"
_DRAFTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Rows stand on levels 0 .. L - 2, and those of levels 0 and 1 are the target's in any case.
_ON_POLICY_DEPTH = 4
_KINDS: dict[str, TrainedScoreKind] = {"TRIE": "TRIE", "VOCAB": "VOCAB"}


def check_fit(bundle: Bundle, dataset: Dataset, config: AlignmentConfig) -> None:
    """Check that bundle, dataset and loss belong together.

    Raises:
        TrainingError: naming what does not.
    """
    name, trie = bundle.manifest.name, bundle.trie
    if not (bundle.target_dir / "config.json").is_file():
        raise TrainingError(f"bundle {name} has no target to align a draft with")
    _check_items(bundle, dataset)
    if trie.depth < 2:
        raise TrainingError("items of one token need no draft: the prompt's own pass ranks them")
    if trie.has_padding:
        raise TrainingError(
            f"the items of bundle {name} differ in length; only items of equal length are trained"
        )
    if config.needs_sequences and not shows_codes_only(bundle.template):
        raise TrainingError(
            f"the prompts of bundle {name} are more than the items of the history, so only their "
            "ends can be learnt from: choose a loss over beams (row-kl, atspeed-s, ...) and alpha 1"
        )
    if config.on_policy > 0.0 and trie.depth < _ON_POLICY_DEPTH:
        raise TrainingError(f"on-policy rows need items of {_ON_POLICY_DEPTH} tokens or more")
    score_kind_of(bundle)


def _check_items(bundle: Bundle, dataset: Dataset) -> None:
    """Check that both have the same items, with the same token paths.

    Raises:
        TrainingError: they do not.
    """
    names = f"bundle {bundle.manifest.name} and dataset {dataset.name}"
    index = bundle.trie.index_of(dataset.items.item_ids)
    if (index < 0).any() or len(index) != bundle.trie.num_items:
        raise TrainingError(f"{names} have different items")
    paths = dataset.items.paths
    if paths.shape[1] != bundle.trie.depth or (bundle.trie.paths(index) != paths).any():
        raise TrainingError(f"{names} have the same items with different semantic IDs")


def score_kind_of(bundle: Bundle) -> TrainedScoreKind:
    """Return the convention of the bundle's scores.

    Raises:
        TrainingError: nothing is trained with it.
    """
    kind = _KINDS.get(bundle.manifest.score_kind)
    if kind is None:
        raise TrainingError(
            f"bundle {bundle.manifest.name} scores by {bundle.manifest.score_kind}; drafts are "
            f"aligned for {' and '.join(_KINDS)}"
        )
    return kind


def start_drafter(bundle: Bundle, start: str | None) -> str | None:
    """Return the drafter whose weights are trained further; None for new weights.

    Args:
        bundle: has drafters.
        start: name of a drafter, or "scratch"; None takes "default" if there is one.

    Raises:
        TrainingError: there is no such drafter, or it is no model.
    """
    drafters = bundle.manifest.drafters
    if start is None:
        start = DEFAULT_DRAFTER if DEFAULT_DRAFTER in drafters else SCRATCH
    if start == SCRATCH:
        return None
    if start not in drafters:
        there = ", ".join((*drafters, SCRATCH))
        raise TrainingError(f"no drafter {start!r} to start from; there are {there}")
    description = bundle.drafter_dir(start) / "drafter.json"
    kind = json.loads(description.read_text(encoding="utf-8")).get("kind")
    if kind != "model":
        raise TrainingError(f"drafter {start!r} is of kind {kind!r}; models are aligned")
    return start


def check_drafter_name(name: str) -> None:
    """Check that a name can be that of a folder.

    Raises:
        TrainingError: it cannot, or means something else.
    """
    if not _DRAFTER_NAME.fullmatch(name) or name == SCRATCH:
        raise TrainingError(f"{name!r} cannot be the name of a drafter")


def load_target(bundle: Bundle) -> nn.Module:
    """Return the target in float32, its adapter merged, in eval mode.

    Raises:
        UnsupportedModelError: the engine would not run it.
        ContextTooShortError: it cannot see a whole prompt and an item at once.
    """
    target = load_causal_lm(bundle.target_dir, torch.float32)
    target.set_attn_implementation(TRAINING_ATTENTION)
    check_context(target.config, bundle.max_prompt_tokens, bundle.trie.depth)
    target.requires_grad_(False)
    return cast(nn.Module, target.eval())


def make_draft(bundle: Bundle, start: str | None, shape: ModelShape, *, seed: int) -> nn.Module:
    """Return the model to train, in float32.

    Args:
        bundle: has the vocabulary, and the drafter to start from.
        start: from `start_drafter`.
        shape: of a new model.
        seed: of its weights.

    Raises:
        UnsupportedModelError: the engine would not run the drafter.
        ContextTooShortError: it cannot see a whole prompt and an item at once.
    """
    if start is None:
        draft = build_model(shape, bundle.manifest.vocab_size, seed=seed)
    else:
        loaded = load_causal_lm(bundle.drafter_dir(start), torch.float32)
        loaded.set_attn_implementation(TRAINING_ATTENTION)
        draft = cast(nn.Module, loaded)
    check_context(draft.config, bundle.max_prompt_tokens, bundle.trie.depth)
    return draft
