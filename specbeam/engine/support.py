"""Which checkpoints the engine runs, decided from their configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# Rotary types whose angles depend on the position alone.
_FIXED_ROTARY = ("default", "linear", "llama3", "yarn")
# Those that change with the length of the sequence, but not below a length the configuration names.
_GROWING_ROTARY = ("dynamic", "longrope")
_ATTENTION = ("full_attention", "sliding_attention")


class UnsupportedModelError(ValueError):
    """The checkpoint is of a kind the engine does not run."""


class ContextTooShortError(ValueError):
    """The model cannot see a whole prompt and an item at once."""


def check_family(config: Mapping[str, Any]) -> None:
    """Check a checkpoint's config.json before anything else of it is read.

    Raises:
        UnsupportedModelError: the family is another one, or the weights are quantised.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedModelError(
            f"model_type is {family!r}; the engine runs {', '.join(FAMILIES)}"
        )
    if config.get("quantization_config"):
        raise UnsupportedModelError("the weights are quantised; fp32, bf16 and fp64 are run")


def check_context(config: Any, max_prompt_tokens: int, max_item_tokens: int) -> None:
    """Check that nothing a request may ask for lies beyond what the model sees alike.

    Args:
        config: transformers' configuration of a supported family.
        max_prompt_tokens: longest prompt.
        max_item_tokens: longest item.

    Raises:
        UnsupportedModelError: its rotary embedding or a layer's attention is of an unknown type.
        ContextTooShortError: prompt and item exceed its positions, its sliding window, or the
            length up to which its rotary embedding does not change.
    """
    tokens = max_prompt_tokens + max_item_tokens
    asked = f"a prompt of {max_prompt_tokens} tokens and an item of {max_item_tokens}"
    positions = int(config.max_position_embeddings)
    if tokens > positions:
        raise ContextTooShortError(
            f"{asked} need {tokens} positions, the model has {positions} (max_position_embeddings)"
        )
    window = sliding_window(config)
    if window is not None and tokens > window:
        raise ContextTooShortError(
            f"{asked} exceed the model's sliding window of {window} tokens;"
            " every row must see the whole prompt"
        )
    unchanged = rotary_limit(config)
    if unchanged is not None and tokens > unchanged:
        raise ContextTooShortError(
            f"{asked} exceed {unchanged} tokens, from where on the angles of the model's rotary"
            " embedding change with the length of the sequence"
        )


def sliding_window(config: Any) -> int | None:
    """Return the window of the layers that have one; None if all see everything.

    Raises:
        UnsupportedModelError: a layer's attention is neither full nor sliding.
    """
    window = getattr(config, "sliding_window", None)
    if config.model_type == "llama" or window is None:
        return None
    if config.model_type == "mistral":
        return int(window)
    types = set(config.layer_types)
    if types - set(_ATTENTION):
        unknown = ", ".join(sorted(types - set(_ATTENTION)))
        raise UnsupportedModelError(
            f"layer_types has {unknown}; the engine runs {', '.join(_ATTENTION)}"
        )
    return int(window) if "sliding_attention" in types else None


def rotary_limit(config: Any) -> int | None:
    """Return the length of sequence from which the rotary angles change; None if they never do.

    Raises:
        UnsupportedModelError: the type is unknown, or differs between layers.
    """
    parameters = config.rope_parameters
    kind = parameters.get("rope_type")
    if kind in _FIXED_ROTARY:
        return None
    if kind not in _GROWING_ROTARY:
        known = ", ".join((*_FIXED_ROTARY, *_GROWING_ROTARY))
        raise UnsupportedModelError(f"rope_type is {kind!r}; the engine runs {known}")
    if kind == "dynamic":
        return int(config.max_position_embeddings)
    return int(parameters["original_max_position_embeddings"])
