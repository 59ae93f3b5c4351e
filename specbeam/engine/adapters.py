"""LoRA adapters, merged into the weights once, when a model is loaded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from specbeam.engine.support import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Beside the files of the checkpoint it belongs to.
ADAPTER_DIR = "adapter"
_WEIGHTS = "adapter_model.safetensors"
_TIED = ("embed_tokens", "lm_head")


class MissingExtraError(ValueError):
    """Something optional that this checkpoint needs is not installed."""


def merge_adapter(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """Return `model` with a LoRA adapter added to its weights.

    Args:
        model: in fp32 or fp64, so that the sum is rounded to the serving type once; changed in
            place.
        directory: adapter_config.json and adapter_model.safetensors, as peft saves them.

    Raises:
        MissingExtraError: peft is not installed.
        UnsupportedModelError: the adapter is no LoRA, fits another model, or changes one of two
            tied weights.
        OSError: a file is missing or damaged.
    """
    _check_kind(directory)
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError(
            f"{ADAPTER_DIR}/ needs peft, which is not installed: pip install 'specbeam[adapters]'"
        )
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, str(directory), torch_device="cpu")
    _check_fit(adapted, directory)
    if model.config.tie_word_embeddings:
        _check_tied(adapted)
    merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    return merged


def _check_kind(directory: Path) -> None:
    text = (directory / "adapter_config.json").read_text(encoding="utf-8")
    kind = json.loads(text).get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(f"{ADAPTER_DIR}/ is of peft_type {kind!r}; LORA is merged")
    if not (directory / _WEIGHTS).is_file():
        raise FileNotFoundError(f"{ADAPTER_DIR}/{_WEIGHTS} is missing")


def _check_fit(adapted: Any, directory: Path) -> None:
    """Compare names: peft only warns, and leaves what it found no weights for at zero."""
    from peft import get_peft_model_state_dict

    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    with safe_open(directory / _WEIGHTS, framework="pt") as file:
        there = set(file.keys())
    # Beside its own weights peft may save those of embedding and head.
    missing, strange = wanted - there, there - wanted - set(adapted.state_dict())
    if missing or strange:
        example = sorted(missing | strange)[0]
        raise UnsupportedModelError(
            f"{ADAPTER_DIR}/ was made for another model: {len(missing)} weights are missing and"
            f" {len(strange)} fit nowhere, {example} for one"
        )


def _check_tied(adapted: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in adapted.named_modules():
        if name.endswith(_TIED) and isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
            raise UnsupportedModelError(
                f"{ADAPTER_DIR}/ changes {name.rpartition('.')[2]}, whose weight is tied to another"
            )
