"""A Llama forward written out by hand: what a pass costs with nothing around it.

It is the yardstick of `specbeam bench forward` and knows one model family, one dtype at a time and
no options.  The engine shares no code with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

Linear = Callable[[torch.Tensor], torch.Tensor]


def plain_linear(weight: torch.Tensor) -> Linear:
    """Return x -> x W^T on the weight as it is stored."""
    return lambda x: F.linear(x, weight)


@dataclass(frozen=True, slots=True)
class MinimalLayer:
    """Weights of one decoder layer; q, k, v and gate, up are joined."""

    norm: torch.Tensor
    qkv: Linear
    out: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


class MinimalForward:
    """Tree rows behind a prompt, on a KV slot laid out like the engine's."""

    def __init__(self, model: LlamaForCausalLM, linear: Callable[[torch.Tensor], Linear]) -> None:
        """Copy the weights.

        Args:
            model: left as it is.
            linear: makes the multiplication by a weight.
        """
        config, body = model.config, model.model
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.dim, self.eps = config.head_dim, config.rms_norm_eps
        self.embedding, self.norm = body.embed_tokens.weight.detach(), body.norm.weight.detach()
        self.frequencies = body.rotary_emb.inv_freq
        self.head = plain_linear(model.lm_head.weight.detach())
        self.layers = [_layer(layer, linear) for layer in body.layers]

    @torch.inference_mode()
    def __call__(
        self,
        slot: torch.Tensor,
        prompt_tokens: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> torch.Tensor:
        """Run R tree rows; the arguments are those of `ModelRunner.forward_rows`.

        Args:
            slot: keys and values.  Shape (layers, 2, G, S, D).
            prompt_tokens: P; every row sees the whole prompt.
            tokens: vocabulary ids.  Shape (R,).
            positions: position ids.  Shape (R,).
            sees: which tree rows each row sees.  Shape (R, R), bool.

        Returns:
            Logits.  Shape (R, V), fp32.
        """
        rows, end = len(tokens), prompt_tokens + sees.shape[1]
        heads, groups, dim = self.heads, self.groups, self.dim
        mask = self._mask(sees, prompt_tokens)
        cos, sin = self._rotary(torch.from_numpy(positions))
        x = F.embedding(torch.from_numpy(tokens), self.embedding)
        width = (x.shape[1],)
        for layer, held in zip(self.layers, slot.unbind(0), strict=True):
            hidden = F.rms_norm(x, width, layer.norm, self.eps)
            qkv = layer.qkv(hidden).view(rows, heads + 2 * groups, dim)
            qk = qkv[:, : heads + groups]
            qk = qk * cos + torch.roll(qk, dim // 2, -1) * sin
            held[0, :, end - rows : end] = qk[:, heads:].transpose(0, 1)
            held[1, :, end - rows : end] = qkv[:, heads + groups :].transpose(0, 1)
            # Query heads that share a key head become rows: every key is read once.
            query = qk[:, :heads].transpose(0, 1).reshape(1, groups, -1, dim)
            out = F.scaled_dot_product_attention(
                query, held[None, 0, :, :end], held[None, 1, :, :end], attn_mask=mask
            )
            x = x + layer.out(out.view(heads, rows, dim).transpose(0, 1).reshape(rows, -1))
            gate, up = layer.gate_up(F.rms_norm(x, width, layer.mlp_norm, self.eps)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        return self.head(F.rms_norm(x, width, self.norm, self.eps)).float()

    def _mask(self, sees: np.ndarray, prompt_tokens: int) -> torch.Tensor:
        rows, end = len(sees), prompt_tokens + sees.shape[1]
        mask = torch.zeros((self.heads // self.groups, rows, end), dtype=self.embedding.dtype)
        mask[:, :, prompt_tokens:].masked_fill_(torch.from_numpy(~sees), -torch.inf)
        return mask.view(1, 1, -1, end)

    def _rotary(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines, and sines signed for a roll by half a head.  Shapes (R, 1, D)."""
        angles = positions[:, None].float() * self.frequencies
        cos, sin = angles.cos().to(self.embedding.dtype), angles.sin().to(self.embedding.dtype)
        return torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]


def _layer(layer: Any, linear: Callable[[torch.Tensor], Linear]) -> MinimalLayer:
    def join(*modules: Any) -> Linear:
        return linear(torch.cat([module.weight.detach() for module in modules]))

    attention, mlp = layer.self_attn, layer.mlp
    return MinimalLayer(
        norm=layer.input_layernorm.weight.detach(),
        qkv=join(attention.q_proj, attention.k_proj, attention.v_proj),
        out=join(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=join(mlp.gate_proj, mlp.up_proj),
        down=join(mlp.down_proj),
    )
