"""One model on one device: rows in, hidden states and logits out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from specbeam.engine.kv_pool import KvGeometry, KvPool
from specbeam.engine.meter import PassMeter
from specbeam.engine.transformers_adapter import (
    SlotCache,
    body_of,
    fold_mask,
    head_of,
    load_causal_lm,
    prepare,
    run_body,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How a model is run.

    Attributes:
        device: torch device name.
        dtype: fp32, bf16 or fp64.
        slots: KV slots, i.e. sessions open at the same time.
        max_prompt_tokens: longest prompt.
        max_rows: scratch rows of a slot; must hold the rows of one pass plus those kept from
            before.
    """

    device: str = "cpu"
    dtype: str = "fp32"
    slots: int = 4
    max_prompt_tokens: int = 256
    max_rows: int = 512

    def __post_init__(self) -> None:
        """Check the values."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, not one of {', '.join(DTYPES)}")
        if min(self.slots, self.max_prompt_tokens, self.max_rows) < 1:
            raise ValueError(f"slots, max_prompt_tokens and max_rows must be positive: {self}")


class ModelRunner:
    """A causal LM with preallocated KV slots.  All calls come from one thread."""

    def __init__(self, model: PreTrainedModel, config: RunnerConfig) -> None:
        """Prepare `model` (already of the right dtype) and allocate the slots."""
        self.config = config
        self.device = torch.device(config.device)
        self.model = prepare(model, self.device)
        self.dtype = DTYPES[config.dtype]
        self._body, self._head = body_of(self.model), head_of(self.model)
        self.meter = PassMeter(self._body)
        self.head_weight: torch.Tensor | None = None
        self.head_bias: torch.Tensor | None = None
        if type(self._head) is nn.Linear:
            self.head_weight, self.head_bias = self._head.weight, self._head.bias
        shape = self.model.config
        self.vocab_size = int(shape.vocab_size)
        heads = int(shape.num_attention_heads)
        kv_heads = int(getattr(shape, "num_key_value_heads", None) or heads)
        head_dim = int(getattr(shape, "head_dim", None) or shape.hidden_size // heads)
        self._heads_per_group = heads // kv_heads
        positions = config.max_prompt_tokens + config.max_rows
        geometry = KvGeometry(int(shape.num_hidden_layers), kv_heads, head_dim, positions)
        self.pool = KvPool(config.slots, geometry, self.dtype, self.device)

    @classmethod
    def load(cls, directory: Path, config: RunnerConfig) -> ModelRunner:
        """Load a checkpoint directory.

        Raises:
            OSError: the checkpoint is missing or damaged.
        """
        model = load_causal_lm(directory, DTYPES[config.dtype], torch.device(config.device))
        return cls(model, config)

    @torch.inference_mode()
    def prefill(self, slot: int, prompt: np.ndarray) -> torch.Tensor:
        """Run a whole prompt from position 0.

        Args:
            slot: leased slot.
            prompt: vocabulary ids.  Shape (P,), 1 <= P <= max_prompt_tokens.

        Returns:
            Hidden state after the last token; see `logits`.  Shape (1, hidden).
        """
        tokens = torch.as_tensor(prompt, dtype=torch.int64, device=self.device)
        positions = torch.arange(len(prompt), device=self.device)
        cache = SlotCache(self.pool.view(slot), 0, len(prompt))
        hidden = run_body(self._body, tokens, positions, None, cache)
        return hidden[-1:]

    @torch.inference_mode()
    def forward_rows(
        self,
        slot: int,
        prompt_tokens: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> torch.Tensor:
        """Run tree rows behind the prompt and the T tree rows the slot holds already.

        Args:
            slot: leased slot.
            prompt_tokens: P; every row sees the whole prompt.
            tokens: vocabulary ids.  Shape (R,).
            positions: position ids (by depth).  Shape (R,).
            sees: which tree rows each row sees, itself included.  Shape (R, T + R), bool.

        Returns:
            Hidden states of every row; see `logits`.  Shape (R, hidden).
        """
        end = prompt_tokens + sees.shape[1]
        cache = SlotCache(self.pool.view(slot), end - len(tokens), end)
        mask = fold_mask(sees, prompt_tokens, self._heads_per_group, self.dtype)
        return run_body(
            self._body,
            torch.as_tensor(tokens, dtype=torch.int64, device=self.device),
            torch.as_tensor(positions, dtype=torch.int64, device=self.device),
            mask.to(self.device),
            cache,
        )

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the LM head.

        Args:
            hidden: states after the last norm.  Shape (R, hidden).

        Returns:
            Shape (R, V), at least fp32.
        """
        logits: torch.Tensor = self._head(hidden)
        self.meter.finish()
        return logits if logits.dtype == torch.float64 else logits.float()
