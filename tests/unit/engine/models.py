"""Tiny random models of every family and rotary type, and trees of rows to run on them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from specbeam.engine import ModelRunner, RunnerConfig

VOCAB = 61
POSITIONS = 64
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}

CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}

# Lengths are chosen so that scaled types differ from the default within a few tokens.
ROTARY: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 3.0},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "dynamic": {"factor": 2.0},
    "longrope": {
        "factor": 2.0,
        "short_factor": [1.0, 1.3, 1.6, 2.0],
        "long_factor": [4.0, 5.0, 6.0, 7.0],
        "original_max_position_embeddings": POSITIONS,
    },
}


def tiny_model(family: str, rotary: str = "default", seed: int = 0, **other: Any) -> Any:
    """Return a random model in fp32 with transformers' own attention.

    Heads of 8 dimensions do not add up to the hidden size; biases and norms are random too.
    """
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[family]
    values: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 40,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": rotary, "rope_theta": 100.0, **ROTARY[rotary]},
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
        **other,
    }
    model = model_class(config_class(**values)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model


def runner_of(model: PreTrainedModel, dtype: str = "fp32", **other: Any) -> ModelRunner:
    """Serve a copy of `model`."""
    values = {"slots": 2, "max_prompt_tokens": 24, "max_rows": 60, "max_item_tokens": 8, **other}
    return ModelRunner(copy.deepcopy(model).to(DTYPES[dtype]), RunnerConfig(dtype=dtype, **values))


@torch.inference_mode()
def plain_logits(model: Any, sequences: list[list[int]]) -> torch.Tensor:
    """Logits after the last token of each sequence, without any cache.  Shape (n, V)."""
    out = torch.empty((len(sequences), VOCAB), dtype=torch.float64)
    for length in {len(sequence) for sequence in sequences}:
        which = [n for n, sequence in enumerate(sequences) if len(sequence) == length]
        tokens = torch.tensor([sequences[n] for n in which])
        out[which] = model(tokens, use_cache=False).logits[:, -1].double()
    return out


class RandomTree:
    """Rows of random trees on one slot, pass after pass, with what each of them means."""

    def __init__(
        self, runner: ModelRunner, slot: int, prompt: np.ndarray, seed: int, at_once: int = 0
    ) -> None:
        """Run the prompt, and some first rows in the same pass."""
        self.runner, self.slot, self.prompt = runner, slot, prompt
        self.rng = np.random.default_rng(seed)
        self.paths: list[list[int]] = []
        self.parents: list[int] = []
        if at_once:
            tokens, positions = self._plant(at_once)
            hidden = runner.prefill_with_rows(slot, prompt, tokens, positions, self.sees())
        else:
            hidden = runner.prefill(slot, prompt)
        logits = runner.logits(hidden)
        self.root, self.first = logits[:1], logits[1:]

    def sequences(self, rows: range) -> list[list[int]]:
        """Whole token sequences of rows."""
        return [[*self.prompt.tolist(), *self.paths[row]] for row in rows]

    def sees(self) -> np.ndarray:
        """Ancestors of every row, itself included.  Shape (T, T), bool."""
        sees = np.eye(len(self.paths), dtype=bool)
        for row, parent in enumerate(self.parents):
            if parent >= 0:
                sees[row] |= sees[parent]
        return sees

    def grow(self, count: int) -> torch.Tensor:
        """Add `count` rows below random rows or the root in one pass; their logits."""
        held, prompt = len(self.paths), len(self.prompt)
        tokens, positions = self._plant(count)
        hidden = self.runner.forward_rows(self.slot, prompt, tokens, positions, self.sees()[held:])
        return self.runner.logits(hidden)

    def _plant(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose `count` new rows; their tokens and positions."""
        held = len(self.paths)
        for row in range(held, held + count):
            parent = int(self.rng.integers(-1, row)) if row else -1
            above = self.paths[parent] if parent >= 0 else []
            if len(above) >= 6:
                parent, above = -1, []
            self.parents.append(parent)
            self.paths.append([*above, int(self.rng.integers(3, VOCAB))])
        tokens = np.array([path[-1] for path in self.paths[held:]])
        positions = np.array([len(path) for path in self.paths[held:]]) + len(self.prompt) - 1
        return tokens, positions

    def keep(self, rows: list[int]) -> None:
        """Drop all but some rows and their ancestors."""
        kept = np.flatnonzero(self.sees()[rows].any(axis=0))
        self.runner.pool.compact(self.slot, len(self.prompt), kept)
        number = {int(old): new for new, old in enumerate(kept)}
        self.parents = [number.get(self.parents[old], -1) for old in kept]
        self.paths = [self.paths[old] for old in kept]
