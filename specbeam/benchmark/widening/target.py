"""A widened target: its configuration and its weights, in memory or as a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from specbeam.benchmark.shapes import ModelShape
from specbeam.benchmark.widening.fit import shape_of
from specbeam.benchmark.widening.layers import WideTensors
from specbeam.benchmark.widening.plan import WideningPlan
from specbeam.bundle.checkpoint import read_checkpoint, weight_files

Advance = Callable[[int, int], None]  # told (tensors done, of all)

_SHARD_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class WideTarget:
    """A small checkpoint and the shape it is widened to; no large tensor exists yet.

    Attributes:
        source: the small checkpoint.
        plan: what goes where.
        gate: kind of gates, "tiny" or "zero".
        config: of the large model.
    """

    source: Path
    plan: WideningPlan
    gate: str
    config: dict[str, Any]

    @classmethod
    def of(cls, source: Path, shape: ModelShape, gate: str = "tiny", seed: int = 0) -> WideTarget:
        """Plan the widening of a checkpoint.

        Raises:
            WideningError: it does not fit the shape.
            BundleError: it is damaged.
        """
        small = dict(read_checkpoint(source).config)
        plan = WideningPlan.draw(shape_of(small), shape, seed)
        return cls(source, plan, gate, _wide_config(small, plan))

    @property
    def tied(self) -> bool:
        """Whether the LM head is the embedding."""
        return bool(self.config.get("tie_word_embeddings", False))

    def tensors(self, dtype: torch.dtype, device: str = "cpu") -> WideTensors:
        """Return the maker of its tensors, computed in `dtype`."""
        weights: dict[str, torch.Tensor] = {}
        for file in weight_files(self.source):
            weights |= load_file(file)
        weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
        return WideTensors(self.plan, weights, self.gate, device)

    def build(self, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
        """Return the model in memory; each tensor is made in fp32 (or fp64) where it is to stay."""
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**self.config))
        for name, tensor in self.tensors(torch.promote_types(dtype, torch.float32), device):
            model.load_state_dict({name: tensor.to(dtype)}, strict=False, assign=True)
        model.tie_weights()
        model.model.rotary_emb = LlamaRotaryEmbedding(model.config).to(device)
        return model.requires_grad_(False).eval()

    def write(
        self,
        directory: Path,
        dtype: torch.dtype,
        device: str = "cpu",
        advance: Advance | None = None,
    ) -> None:
        """Write a checkpoint, a file of about 2 GB at a time.

        Args:
            directory: an existing empty directory.
            dtype: the weights are stored as.
            device: where the tensors are made.
            advance: told how far it is.
        """
        config = {**self.config, "dtype": str(dtype).removeprefix("torch.")}
        (directory / "config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )
        shards = _Shards(directory)
        tensors = self.tensors(torch.promote_types(dtype, torch.float32), device)
        for done, (name, tensor) in enumerate(tensors, start=1):
            shards.add(name, tensor.to("cpu", dtype).contiguous())
            if advance is not None:
                advance(done, tensors.count())
        shards.finish()


class _Shards:
    """Writes tensors to model*.safetensors as they come."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: dict[str, torch.Tensor] = {}
        self._bytes = self._total = 0
        self._written: list[list[str]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        self._waiting[name] = tensor
        self._bytes += tensor.nbytes
        self._total += tensor.nbytes
        if self._bytes >= _SHARD_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write the rest, give the files their names and list them."""
        if self._waiting:
            self._flush()
        count = len(self._written)
        if count == 1:
            self._part(0).rename(self._directory / "model.safetensors")
            return
        places: dict[str, str] = {}
        for number, names in enumerate(self._written):
            file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            self._part(number).rename(self._directory / file)
            places |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self._total}, "weight_map": places}
        text = json.dumps(index, indent=2) + "\n"
        (self._directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def _flush(self) -> None:
        save_file(self._waiting, self._part(len(self._written)), metadata={"format": "pt"})
        self._written.append(list(self._waiting))
        self._waiting, self._bytes = {}, 0

    def _part(self, number: int) -> Path:
        return self._directory / f"part-{number}"


def _wide_config(small: dict[str, Any], plan: WideningPlan) -> dict[str, Any]:
    """The small configuration in the large shape; the mean of squares shrinks by unused dims."""
    large, carried = plan.large, plan.fit.copies * plan.small.hidden
    return {
        **small,
        "hidden_size": large.hidden,
        "num_hidden_layers": large.layers,
        "num_attention_heads": large.heads,
        "num_key_value_heads": large.kv_heads,
        "head_dim": large.head_dim,
        "intermediate_size": large.intermediate,
        "rms_norm_eps": small["rms_norm_eps"] * carried / large.hidden,
    }
