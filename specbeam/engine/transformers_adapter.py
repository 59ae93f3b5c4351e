"""The one module that knows how transformers builds a model.

A checkpoint is read, checked and initialised by transformers; then its weights move, layer by
layer, into a `Decoder`.  What is relied on are the names of the modules, which are those of the
checkpoint format, and the rotary module's own tables; transformers' attention, cache and mask
interfaces, which change between minor versions, are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from specbeam.engine.adapters import ADAPTER_DIR, merge_adapter
from specbeam.engine.decoder import Decoder, DecoderShape, LayerWeights
from specbeam.engine.linear import Linear, linear_of, worth_packing
from specbeam.engine.support import UnsupportedModelError, check_context, check_family


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model taken apart.

    Attributes:
        decoder: everything but the LM head.
        head: the LM head.
        vocab_size: V.
    """

    decoder: Decoder
    head: nn.Module
    vocab_size: int


def load_causal_lm(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a checkpoint from disk only, on the CPU, its adapter merged.

    Args:
        directory: Hugging Face checkpoint; a LoRA adapter may stand below it in `adapter/`.
        dtype: parameter type.

    Raises:
        UnsupportedModelError: the engine does not run its kind, or that of its adapter.
        MissingExtraError: it has an adapter and peft is not installed.
        OSError: the checkpoint is missing or damaged.
    """
    disable_progress_bar()  # a service logs lines, not bars
    config, _ = PreTrainedConfig.get_config_dict(str(directory), local_files_only=True)
    check_family(config)
    adapter = directory / ADAPTER_DIR
    loaded_as = torch.promote_types(dtype, torch.float32) if adapter.is_dir() else dtype
    model = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype=loaded_as, local_files_only=True, use_safetensors=True
    )
    if adapter.is_dir():
        model = merge_adapter(model, adapter)
        # Not `model.to`: the rotary frequencies are a buffer and stay fp32.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    return cast(PreTrainedModel, model)


def body_of(model: PreTrainedModel) -> nn.Module:
    """Return the decoder stack of an untouched model (everything but the LM head)."""
    return cast(nn.Module, model.get_decoder())


def take_apart(
    model: PreTrainedModel, device: torch.device, max_prompt_tokens: int, max_item_tokens: int
) -> ModelParts:
    """Move a model's weights into a `Decoder`.

    Args:
        model: of a supported family; its layers are gone afterwards, so that no weight is held
            twice for longer than a layer takes.
        device: where it is to run.
        max_prompt_tokens: longest prompt.
        max_item_tokens: longest item.

    Raises:
        UnsupportedModelError: the engine does not run its kind.
        ContextTooShortError: it cannot see a whole prompt and an item at once.
    """
    check_family({"model_type": model.config.model_type})
    check_context(model.config, max_prompt_tokens, max_item_tokens)
    model.requires_grad_(False)
    model.eval()
    cast(nn.Module, model).to(device)
    body = cast(Any, body_of(model))
    shape = _shape_of(body)
    embedding = body.embed_tokens.weight
    rotary = _rotary_table(body.rotary_emb, embedding, max_prompt_tokens + max_item_tokens)
    if rotary.shape[-1] != shape.head_dim:
        raise UnsupportedModelError(
            f"the rotary embedding turns {rotary.shape[-1]} of a head's {shape.head_dim} dimensions"
        )
    layers, packed = [], False
    while len(body.layers):
        taken = _Layer(body.layers[0], shape)
        layers.append(taken.weights)
        packed |= taken.packed
        del body.layers[0]
    decoder = Decoder(shape, embedding, rotary, layers, body.norm.weight, pad_rows=packed)
    head = cast(nn.Module, model.get_output_embeddings())
    return ModelParts(decoder, head, int(model.config.vocab_size))


def _shape_of(body: Any) -> DecoderShape:
    attention, config = body.layers[0].self_attn, body.config
    return DecoderShape(
        hidden=int(config.hidden_size),
        layers=len(body.layers),
        heads=int(config.num_attention_heads),
        kv_heads=int(config.num_key_value_heads),
        head_dim=int(attention.head_dim),
        scale=float(attention.scaling),
        epsilon=float(body.norm.variance_epsilon),
    )


def _rotary_table(rotary: nn.Module, like: torch.Tensor, positions: int) -> torch.Tensor:
    """Cosines, and sines signed for a roll by half a head.  Shape (positions, 2, 1, D).

    q cos + rotate_half(q) sin = q cos + roll(q, D / 2) s, where s is sin with its first half
    negated.
    """
    ids = torch.arange(positions, device=like.device)[None]
    cos, sin = rotary(like, position_ids=ids)
    half = sin.shape[-1] // 2
    signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    return torch.stack([cos[0], signed[0]], dim=1)[:, :, None]


class _Layer:
    """Joins the weights of one transformers layer."""

    def __init__(self, layer: Any, shape: DecoderShape) -> None:
        self.packed = False
        attention, mlp = layer.self_attn, layer.mlp
        self.weights = LayerWeights(
            norm=layer.input_layernorm.weight,
            qkv=self._join(attention.q_proj, attention.k_proj, attention.v_proj),
            head_norms=_head_norms(attention, shape),
            out=self._join(attention.o_proj),
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=self._join(mlp.gate_proj, mlp.up_proj),
            down=self._join(mlp.down_proj),
            activation=mlp.act_fn,
        )

    def _join(self, *modules: nn.Module) -> Linear:
        """One multiplication for several modules with the same input."""
        parts = [_plain_linear(module) for module in modules]
        weight = torch.cat([part.weight for part in parts])
        with_bias = parts[0].bias is not None
        bias = torch.cat([part.bias for part in parts]) if with_bias else None
        packed = worth_packing(weight)
        self.packed |= packed
        return linear_of(weight, bias, packed=packed)


def _plain_linear(module: nn.Module) -> nn.Linear:
    if type(module) is not nn.Linear:
        raise UnsupportedModelError(
            f"a projection is a {type(module).__name__}, not a plain linear layer"
        )
    return module


def _head_norms(attention: Any, shape: DecoderShape) -> torch.Tensor | None:
    """The query norm's weight for H heads, then the key norm's for G.  Shape (H + G, D)."""
    if getattr(attention, "q_norm", None) is None:
        return None
    query = attention.q_norm.weight.expand(shape.heads, -1)
    return torch.cat([query, attention.k_norm.weight.expand(shape.kv_heads, -1)])
