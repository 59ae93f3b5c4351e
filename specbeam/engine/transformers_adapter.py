"""The one module that touches transformers' attention and cache interfaces.

Both change between minor versions, so nothing else in the project may use them.  A model is run by
its own code with our attention function (registered by name) and our cache object, which writes new
keys and values into a preallocated slot instead of concatenating.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.logging import disable_progress_bar

ATTENTION_NAME = "specbeam_tree"


class SlotCache(Cache):
    """One forward's view of a KV slot.

    Attributes:
        slot: keys and values of one slot.  Shape (layers, 2, G, S, D).
        start: first position the new rows are written to.
        end: one past the last position.
    """

    def __init__(self, slot: torch.Tensor, start: int, end: int) -> None:
        """Keep the view; nothing is copied."""
        super().__init__(layers=[])
        self.slot = slot
        self.start = start
        self.end = end

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new rows and return everything the slot holds so far."""
        layer = self.slot[layer_idx]
        layer[0, :, self.start : self.end] = key_states[0]
        layer[1, :, self.start : self.end] = value_states[0]
        return layer[0, None, :, : self.end], layer[1, None, :, : self.end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Rows held before this forward."""
        return self.start


def tree_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    causal_prefill: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention over a slot, without repeating keys or values per head.

    The H / G query heads that share a key head are folded into the row axis, so one call per layer
    reads each key once; `attention_mask` is already repeated for that by `fold_mask`.

    Args:
        module: the attention layer (unused; part of the interface).
        query: shape (1, H, R, D).
        key: shape (1, G, S, D).
        value: shape (1, G, S, D).
        attention_mask: additive.  Shape (1, 1, H / G * R, S); ignored for a causal prefill.
        scaling: score factor.
        causal_prefill: the rows are a whole prompt from position 0.

    Returns:
        Output of shape (1, R, H, D), and None for the weights.
    """
    heads, rows, dim = query.shape[1:]
    groups = key.shape[1]
    if causal_prefill:
        out = F.scaled_dot_product_attention(
            query, key, value, is_causal=rows > 1, scale=scaling, enable_gqa=heads != groups
        )
        return out.transpose(1, 2), None
    folded = query.reshape(1, groups, heads // groups * rows, dim)
    out = F.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.view(1, heads, rows, dim).transpose(1, 2), None


def fold_mask(
    sees: np.ndarray, prompt_tokens: int, heads_per_group: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the additive mask `tree_attention` takes: 0 on what a row sees, -inf elsewhere.

    Args:
        sees: which tree rows each row sees.  Shape (R, T), bool.
        prompt_tokens: P positions before them, seen by every row.
        heads_per_group: H / G; the mask is repeated for each.
        dtype: of the model.

    Returns:
        Shape (1, 1, H / G * R, P + T), on the CPU.
    """
    rows, tree_rows = sees.shape
    folded = np.zeros((heads_per_group, rows, prompt_tokens + tree_rows), np.float32)
    np.copyto(folded[:, :, prompt_tokens:], -np.inf, where=~sees)
    return torch.from_numpy(folded).to(dtype).view(1, 1, heads_per_group * rows, -1)


def load_causal_lm(directory: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a checkpoint from disk only, with our attention.

    Args:
        directory: Hugging Face checkpoint.
        dtype: parameter type.
        device: where it runs.

    Raises:
        OSError: the checkpoint is missing or damaged.
    """
    disable_progress_bar()  # a service logs lines, not bars
    model = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype=dtype, local_files_only=True, use_safetensors=True
    )
    return prepare(cast(PreTrainedModel, model), device)


def prepare(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Switch a model to our attention, to inference and to `device`."""
    if ATTENTION_NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, tree_attention)
    model.config._attn_implementation = ATTENTION_NAME
    model.requires_grad_(False)
    model.eval()
    return cast(PreTrainedModel, cast(nn.Module, model).to(device))


def body_of(model: PreTrainedModel) -> nn.Module:
    """Return the decoder stack (everything but the LM head)."""
    return cast(nn.Module, model.get_decoder())


def head_of(model: PreTrainedModel) -> nn.Module:
    """Return the LM head."""
    return cast(nn.Module, model.get_output_embeddings())


def run_body(
    body: nn.Module,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None,
    cache: SlotCache,
) -> torch.Tensor:
    """Run the decoder stack over R rows of one sequence.

    Args:
        body: from `body_of`.
        tokens: vocabulary ids.  Shape (R,).
        positions: position ids.  Shape (R,).
        mask: folded additive mask, or None for a causal prefill from position 0.
        cache: where the rows go.

    Returns:
        Hidden states after the last norm.  Shape (R, hidden).
    """
    # A 4-D mask is handed through untouched by transformers; for a prefill its content is ignored.
    handed = mask if mask is not None else tokens.new_zeros((1, 1, 1, 1), dtype=torch.float32)
    out = body(
        input_ids=tokens[None],
        position_ids=positions[None],
        attention_mask=handed,
        past_key_values=cache,
        use_cache=True,
        causal_prefill=mask is None,
    )
    return cast(torch.Tensor, out.last_hidden_state[0])
