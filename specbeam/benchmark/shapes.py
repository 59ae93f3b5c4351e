"""Random targets of production-like shapes, for latency where no such model can be trained here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbeam.bundle import Bundle, BundleParts, write_bundle


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama-style shape.

    Attributes:
        hidden: model width.
        layers: decoder layers.
        heads: query heads.
        kv_heads: key/value heads.
        head_dim: size of a head.
        intermediate: width of the MLP.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int


SHAPES = {
    "86m": ModelShape(768, 12, 12, 4, 64, 2432),
    "155m": ModelShape(1024, 12, 16, 16, 64, 2816),
    "310m": ModelShape(1024, 24, 8, 4, 128, 3328),
    "0.5b": ModelShape(1024, 28, 16, 8, 128, 3072),
    "1.5b": ModelShape(1536, 28, 12, 2, 128, 8960),
    "7b": ModelShape(4096, 32, 32, 8, 128, 14336),
    "toy": ModelShape(64, 2, 4, 2, 32, 128),
}


def random_model(
    shape: ModelShape, vocab_size: int, dtype: torch.dtype, seed: int
) -> LlamaForCausalLM:
    """Return a random model; its answers mean nothing, its times do."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def bundle_with_random_target(
    bundle: Bundle, shape_name: str, dtype: torch.dtype, directory: Path, seed: int = 0
) -> Bundle:
    """Write a copy of `bundle` whose target is a random model of the named shape."""
    model = random_model(SHAPES[shape_name], bundle.manifest.vocab_size, dtype, seed)
    checkpoint = directory / "checkpoint"
    model.save_pretrained(checkpoint)
    # Other drafters may be bound to the target they were made for.
    names = bundle.model_drafters()
    parts = BundleParts(
        name=f"{bundle.manifest.name}-{shape_name}",
        trie=bundle.trie,
        template=bundle.template,
        levels=bundle.manifest.levels,
        vocab_size=bundle.manifest.vocab_size,
        target_dir=checkpoint,
        drafters={name: bundle.drafter_dir(name) for name in names},
        items_file=bundle.items_file if bundle.items_file.exists() else None,
        default_beam_width=bundle.manifest.default_beam_width,
        exclude_history=bundle.manifest.exclude_history,
        score_kind=bundle.manifest.score_kind,
    )
    return write_bundle(directory / "bundle", parts)
