"""The decoder stack of the Llama family as one straight function over a KV slot.

Weights, rotary tables and constants come from transformers (see `transformers_adapter`), the pass
itself is ours: next to transformers' own forward it has no per-module dispatch, builds its mask and
rotary tables once, multiplies by joined and packed weights and writes keys and values in place.
Every kernel is launched without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from specbeam.engine.linear import Linear, padded_rows

# (number of a layer, joined queries, keys and values of R rows) -> attended heads (R, H, D).
Attention = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes all layers share.

    Attributes:
        hidden: width of the residual stream.
        layers: decoder layers.
        heads: query heads, H.
        kv_heads: key/value heads, G.
        head_dim: D.
        scale: factor of the attention scores.
        epsilon: of the RMS norms.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    epsilon: float

    @property
    def heads_per_group(self) -> int:
        """Query heads that share a key head, H / G."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.

    Attributes:
        norm: weight of the norm before attention.  Shape (hidden,).
        qkv: hidden -> queries, keys, values, one after the other.
        head_norms: weight of the norm of every query and key head, or None where the family has
            none.  Shape (H + G, D).
        out: heads -> hidden.
        mlp_norm: weight of the norm before the MLP.  Shape (hidden,).
        gate_up: hidden -> gate, up, one after the other.
        down: MLP -> hidden.
        activation: of the gate.
    """

    norm: torch.Tensor
    qkv: Linear
    head_norms: torch.Tensor | None
    out: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear
    activation: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class SlotRows:
    """Where the rows of a pass go and what they see.

    Attributes:
        slot: keys and values of one slot.  Shape (layers, 2, G, S, D).
        start: first position the new rows are written to.
        end: one past the last position.
        mask: of the tree rows, from `tree_mask`; None when there are none.
        prompt_rows: rows in front that are a whole prompt from position 0, each of which sees those
            before it; tree rows follow.
    """

    slot: torch.Tensor
    start: int
    end: int
    mask: torch.Tensor | None
    prompt_rows: int = 0


def tree_mask(
    sees: torch.Tensor, prompt_tokens: int, heads_per_group: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the additive mask of tree rows: 0 on what a row sees, -inf elsewhere.

    Args:
        sees: which tree rows each row sees.  Shape (R, T), bool.
        prompt_tokens: P positions before them, seen by every row.
        heads_per_group: the mask is repeated for each query head of a group.
        dtype: of the model.

    Returns:
        Shape (1, 1, H / G * R, P + T), on the device of `sees`.
    """
    rows, tree_rows = sees.shape
    mask = torch.zeros((rows, prompt_tokens + tree_rows), dtype=dtype, device=sees.device)
    mask[:, prompt_tokens:].masked_fill_(sees.logical_not(), -torch.inf)
    return mask.expand(heads_per_group, -1, -1).reshape(1, 1, heads_per_group * rows, -1)


def attend(
    query: torch.Tensor, held: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Grouped-query attention over a slot, without repeating keys or values per head.

    The query heads that share a key head are folded into the row axis, so one call reads each key
    once.

    Args:
        query: shape (R, H, D).
        held: keys and values.  Shape (2, G, S, D).
        mask: additive, from `tree_mask`; None when the rows are a whole prompt, S = R.
        scale: score factor.

    Returns:
        Shape (R, H, D), heads of a row not adjacent in memory.
    """
    rows, heads, dim = query.shape
    groups = held.shape[1]
    keys, values = held[:, None].unbind(0)
    if mask is None:
        query = query.transpose(0, 1)[None]
        out = F.scaled_dot_product_attention(
            query, keys, values, is_causal=rows > 1, scale=scale, enable_gqa=heads != groups
        )
        return out[0].transpose(0, 1)
    folded = query.transpose(0, 1).reshape(1, groups, -1, dim)
    out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
    return out.view(heads, rows, dim).transpose(0, 1)


class Decoder(nn.Module):
    """Token ids in, hidden states after the last norm out; a module only so that it takes hooks."""

    def __init__(
        self,
        shape: DecoderShape,
        embedding: torch.Tensor,
        rotary: torch.Tensor,
        layers: list[LayerWeights],
        norm: torch.Tensor,
        *,
        pad_rows: bool,
    ) -> None:
        """Keep the weights; none becomes a parameter.

        Args:
            shape: sizes.
            embedding: shape (V, hidden).
            rotary: cosines, and sines signed for a roll by half a head, of every position.
                Shape (positions, 2, 1, D).
            layers: first to last.
            norm: weight of the last norm.  Shape (hidden,).
            pad_rows: some weight is packed, so few different numbers of rows should occur.
        """
        super().__init__()
        self.shape = shape
        self.positions = len(rotary)
        self._embedding, self._rotary = embedding, rotary
        self._layers, self._norm = layers, norm
        self._pad_rows = pad_rows

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the input embeddings of vocabulary ids.  Shape (..., hidden)."""
        return F.embedding(tokens, self._embedding)

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, place: SlotRows
    ) -> torch.Tensor:
        """Run R rows of one sequence.

        Args:
            tokens: vocabulary ids.  Shape (R,).
            positions: position ids.  Shape (R,).
            place: where the rows go.

        Returns:
            Shape (R, hidden).
        """
        angles, held = self.angles(positions), place.slot.unbind(0)

        def attention(layer: int, qkv: torch.Tensor) -> torch.Tensor:
            return self._attention(self.split(layer, qkv, angles), held[layer], place)

        return self.run(tokens, attention)

    def run(self, tokens: torch.Tensor, attention: Attention) -> torch.Tensor:
        """Run R rows through every layer, with any attention between them.

        Args:
            tokens: vocabulary ids.  Shape (R,).
            attention: (number of the layer, its joined queries, keys and values (R, (H + 2 G) D))
                -> attended heads (R, H, D).

        Returns:
            Shape (R, hidden).
        """
        shape, rows = self.shape, len(tokens)
        more = padded_rows(rows) - rows if self._pad_rows else 0
        x = F.embedding(F.pad(tokens, (0, more)) if more else tokens, self._embedding)
        # Rows that fill up take no part in attention; what they hold is never read.
        heads = x.new_zeros((rows + more, shape.heads * shape.head_dim)) if more else None
        width, epsilon = (shape.hidden,), shape.epsilon
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(F.rms_norm(x, width, layer.norm, epsilon))
            attended = attention(number, qkv[:rows])
            if heads is None:
                attended = attended.reshape(rows, -1)
            else:
                heads[:rows].view(rows, shape.heads, -1).copy_(attended)
                attended = heads
            x = x + layer.out(attended)
            gate, up = layer.gate_up(F.rms_norm(x, width, layer.mlp_norm, epsilon)).chunk(2, -1)
            x = x + layer.down(layer.activation(gate).mul_(up))
        return F.rms_norm(x[:rows], width, self._norm, epsilon)

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and signed sines of positions, each of shape (R, 1, D)."""
        cos, sin = self._rotary.index_select(0, positions).unbind(1)
        return cos, sin

    def split(
        self, layer: int, qkv: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Take a layer's joined queries, keys and values apart and rotate the first two.

        Args:
            layer: its number.
            qkv: shape (R, (H + 2 G) D).
            angles: of the rows' positions.

        Returns:
            Queries (R, H, D), keys and values (R, G, D).
        """
        shape, (cos, sin) = self.shape, angles
        head_norms = self._layers[layer].head_norms
        last_key = shape.heads + shape.kv_heads
        by_head = qkv.view(len(qkv), -1, shape.head_dim)
        qk = by_head[:, :last_key]
        if head_norms is not None:
            qk = F.rms_norm(qk, (shape.head_dim,), None, shape.epsilon) * head_norms
        qk = qk * cos + torch.roll(qk, shape.head_dim // 2, -1) * sin
        return qk[:, : shape.heads], qk[:, shape.heads :], by_head[:, last_key:]

    def _attention(
        self,
        qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        held: torch.Tensor,
        place: SlotRows,
    ) -> torch.Tensor:
        """Store keys and values, attend.  Shape (R, H, D)."""
        shape, (queries, keys, values) = self.shape, qkv
        new_keys, new_values = held[:, :, place.start : place.end].unbind(0)
        new_keys.copy_(keys.transpose(0, 1))
        new_values.copy_(values.transpose(0, 1))
        held, prompt = held[:, :, : place.end], place.prompt_rows
        if place.mask is None or not prompt:
            return attend(queries, held, place.mask, shape.scale)
        # Two calls: with one mask over all rows a whole pass takes 1.0 to 1.3 times as long (one
        # thread, R = 64 and 128; 4 M parameters with P = 30 and 200, 86 M with P = 30).
        of_prompt = attend(queries[:prompt], held[:, :, :prompt], None, shape.scale)
        return torch.cat([of_prompt, attend(queries[prompt:], held, place.mask, shape.scale)])
