"""Whether a small Llama fits into a large shape, and the numbers that say how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from specbeam.benchmark.shapes import ModelShape

# Rotary types whose angle of a pair depends on its frequency alone, so that a pair may move to the
# place of the same frequency in a larger head.
_ROTARY_TYPES = ("default", "linear", "llama3")


class WideningError(ValueError):
    """A model cannot be widened to a shape, or the result is not the same function."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a small model lies in a large one.

    Attributes:
        copies: n, how often each residual dim occurs.
        unused: residual dims of the large model that carry nothing.
        head_factor: r, large over small head dim.
        kv_copies: key/value heads of the large model that each small one takes.
        kv_heads_needed: of the large model, for all small ones.
    """

    copies: int
    unused: int
    head_factor: int
    kv_copies: int
    kv_heads_needed: int

    def as_dict(self) -> dict[str, int]:
        """Return the numbers under their names."""
        return asdict(self)


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape of a Llama from its config.json.

    Raises:
        WideningError: it is none, or has parts that are not widened.
    """
    if config.get("model_type") != "llama":
        raise WideningError(f"model_type is {config.get('model_type')!r}; only llama is widened")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise WideningError("the model has biases, which are not widened")
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rotary.get("rope_type", "default")
    if kind not in _ROTARY_TYPES:
        raise WideningError(f"rotary embeddings of type {kind!r} do not carry over to a wider head")
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    return ModelShape(
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        intermediate=int(config["intermediate_size"]),
    )


def fit_shape(small: ModelShape, large: ModelShape) -> Fit:
    """Return how `small` lies in `large`.

    Raises:
        WideningError: naming everything that is too small.
    """
    factor, remainder = divmod(large.head_dim, small.head_dim)
    queries, slots = small.heads // small.kv_heads, large.heads // large.kv_heads
    kv_copies = math.ceil(queries / slots)
    needed = small.kv_heads * kv_copies
    problems = [
        f"{what} {has} < {wants}"
        for what, has, wants in (
            ("hidden size", large.hidden, small.hidden),
            ("layers", large.layers, small.layers),
            ("MLP width", large.intermediate, small.intermediate),
            ("key/value heads", large.kv_heads, needed),
        )
        if has < wants
    ]
    if remainder or not factor:
        problems.append(f"head dim {large.head_dim} is no multiple of {small.head_dim}")
    if problems:
        raise WideningError(f"the model does not fit the shape: {', '.join(problems)}")
    copies = large.hidden // small.hidden
    return Fit(copies, large.hidden - copies * small.hidden, factor, kv_copies, needed)
