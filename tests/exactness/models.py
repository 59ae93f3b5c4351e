"""Tiny random models for the exactness suite, wholly in fp64 where asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from specbeam.engine import ModelRunner, RunnerConfig

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def random_model(
    seed: int,
    vocab_size: int,
    layers: int = 2,
    kv_heads: int = 2,
    dtype: torch.dtype = torch.float64,
    spread: float = 0.6,
    family: str = "llama",
) -> LlamaForCausalLM:
    """A random model whose next-token laws are peaked enough to make rankings interesting."""
    torch.manual_seed(seed)
    config_class, model_class = FAMILIES[family]
    config = config_class(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=4,
        intermediate_size=24,
        initializer_range=spread,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = model_class(config).to(dtype).eval()
    if dtype == torch.float64:
        norms_in_fp64(model)
    return model


class CoarseHead(nn.Linear):
    """An LM head whose logits are rounded to a grid, so that equal scores are common.

    Tied weights would not do: the same product may differ in its last bit between columns of a
    GEMM.
    """

    grid: float

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.round(super().forward(hidden) / self.grid) * self.grid


def coarsen(model: LlamaForCausalLM, grid: float) -> LlamaForCausalLM:
    """Give `model` a `CoarseHead` with the same weights."""
    old = model.lm_head
    head = CoarseHead(old.in_features, old.out_features, bias=False, dtype=old.weight.dtype)
    head.weight, head.bias, head.grid = old.weight, old.bias, grid
    model.lm_head = head
    return model


def add_bias(model: LlamaForCausalLM, seed: int) -> LlamaForCausalLM:
    """Give the LM head a bias, as some families have."""
    old = model.lm_head
    head = nn.Linear(old.in_features, old.out_features, dtype=old.weight.dtype)
    generator = torch.Generator().manual_seed(seed)
    head.weight = old.weight
    head.bias = nn.Parameter(
        torch.randn(old.out_features, generator=generator).to(old.weight.dtype)
    )
    model.lm_head = head
    return model


def norms_in_fp64(model: nn.Module) -> None:
    """transformers computes RMSNorm in fp32 whatever the dtype; equality needs fp64 throughout."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = _rms_norm_of(module)  # type: ignore[method-assign]


def _rms_norm_of(module: nn.Module):
    def forward(hidden: torch.Tensor) -> torch.Tensor:
        variance = hidden.pow(2).mean(-1, keepdim=True)
        return module.weight * hidden * torch.rsqrt(variance + module.variance_epsilon)

    return forward


def noisy_copy(model: LlamaForCausalLM, seed: int, amount: float) -> LlamaForCausalLM:
    """The same model with every weight disturbed."""
    generator = torch.Generator().manual_seed(seed)
    other = type(model)(copy.deepcopy(model.config)).to(model.dtype).eval()
    if model.lm_head.bias is not None:
        add_bias(other, seed)
    state = {
        name: value + amount * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in model.state_dict().items()
    }
    other.load_state_dict(state)
    if model.dtype == torch.float64:
        norms_in_fp64(other)
    return coarsen(other, model.lm_head.grid) if isinstance(model.lm_head, CoarseHead) else other


def plain_copy(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """An equal model, so that one may be switched to our attention and the other not."""
    return noisy_copy(model, 0, 0.0)


def runner_of(model: LlamaForCausalLM, slots: int = 2, max_rows: int = 700) -> ModelRunner:
    """Serve a copy of `model`; the model itself stays with transformers' own attention."""
    dtype = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16"}[model.dtype]
    config = RunnerConfig(dtype=dtype, slots=slots, max_prompt_tokens=64, max_rows=max_rows)
    return ModelRunner(plain_copy(model), config)


class WholePrefixes:
    """`next_logits` of the reference: cache-free forwards with transformers' own attention.

    What it was asked before it remembers, so that a thousand searches on one prompt stay cheap.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], list[float]] = {}

    @torch.inference_mode()
    def __call__(self, prefixes: Sequence[Sequence[int]]) -> list[list[float]]:
        keys = [tuple(map(int, prefix)) for prefix in prefixes]
        unknown = list(dict.fromkeys(key for key in keys if key not in self._known))
        if unknown:
            logits = self._model(torch.tensor(unknown), use_cache=False).logits[:, -1]
            self._known.update(zip(unknown, logits.tolist(), strict=True))
        return [self._known[key] for key in keys]


def whole_prefix_logprobs(model: LlamaForCausalLM):
    """Log-probabilities over the vocabulary after each of several sequences of equal length."""
    law = WholePrefixes(model)

    def next_logprobs(prefixes: Sequence[Sequence[int]]) -> list[list[float]]:
        return torch.log_softmax(torch.tensor(law(prefixes), dtype=model.dtype), -1).tolist()

    return next_logprobs
