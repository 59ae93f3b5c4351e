"""Checkpoints read by their headers: what they say, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from specbeam.bundle import BundleError
from specbeam.bundle.checkpoint import adapter_files, model_files, read_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_headers_tell_parameters_and_types(checkpoint: Path) -> None:
    found = read_checkpoint(checkpoint)
    model = LlamaForCausalLM.from_pretrained(checkpoint)
    assert found.num_parameters == sum(p.numel() for p in model.parameters())
    assert found.dtypes == {"BF16": found.num_parameters}
    assert (found.model_type, found.vocab_size, found.max_positions) == ("llama", 40, 2048)
    assert found.token_id("bos_token_id") == 1


def test_only_what_transformers_loads_is_copied(checkpoint: Path) -> None:
    for name in ("optimizer.pt", "README.md", "tokenizer.json", "consolidated.safetensors"):
        (checkpoint / name).write_text("{}")
    names = {file.name for file in model_files(checkpoint)}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


def test_a_lost_shard_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match=r"model-2\.safetensors is missing"):
        read_checkpoint(checkpoint)
    (checkpoint / "model-2.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert read_checkpoint(checkpoint).num_parameters > 0


@pytest.mark.parametrize("cut", [4, 100, -1])
def test_a_cut_file_is_noticed(checkpoint: Path, cut: int) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(BundleError, match="not a whole safetensors file"):
        read_checkpoint(checkpoint)


def test_embeddings_must_have_the_configured_size(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": 32}))
    with pytest.raises(BundleError, match="has 40 rows, config"):
        read_checkpoint(checkpoint)


def test_advice_for_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BundleError, match="pack its base model, with --adapter"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 4}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="safe_serialization"):
        read_checkpoint(tmp_path)


def test_only_lora_adapters_are_taken(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(BundleError, match="type IA3; only LORA is served"):
        adapter_files(tmp_path)
