"""A merged LoRA adapter gives the logits of peft's own forward; what does not fit is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from specbeam.engine import MissingExtraError, ModelRunner, RunnerConfig, UnsupportedModelError
from specbeam.engine.runner import DTYPES
from specbeam.engine.transformers_adapter import load_causal_lm
from tests.unit.engine.models import CLASSES, RandomTree, plain_logits, tiny_model

# peft 0.21 still asks transformers for a name of version 4.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

EVERY_PROJECTION = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": EVERY_PROJECTION},
    "two-projections": {"target_modules": ["q_proj", "v_proj"]},
    "rank-stabilised": {"target_modules": EVERY_PROJECTION, "use_rslora": True},
    "dora": {"target_modules": EVERY_PROJECTION, "use_dora": True},
    "head-saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "head-adapted": {"target_modules": ["q_proj", "lm_head"]},
}


def save_with_adapter(directory: Path, family: str = "llama", **lora: Any) -> Path:
    """Write a checkpoint with a random adapter below it."""
    tied = lora.pop("tied", False)
    model = tiny_model(family, tie_word_embeddings=tied)
    model.save_pretrained(directory)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(str(directory / "adapter"))
    return directory


def load(directory: Path, dtype: str = "fp32") -> ModelRunner:
    config = RunnerConfig(
        dtype=dtype, slots=1, max_prompt_tokens=24, max_rows=40, max_item_tokens=8
    )
    return ModelRunner.load(directory, config)


def grown(runner: ModelRunner) -> tuple[RandomTree, torch.Tensor]:
    tree = RandomTree(runner, 0, np.array([1, 9, 17, 30, 4]), 0)
    return tree, tree.grow(15)


def check_against_peft(directory: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    before = plain_logits(base, [[1, 9, 17]])
    apart = PeftModel.from_pretrained(base, str(directory / "adapter")).eval()
    tree, logits = grown(load(directory))
    expected = plain_logits(apart, tree.sequences(range(15)))
    torch.testing.assert_close(logits.double(), expected, atol=1e-5, rtol=0)
    assert (plain_logits(apart, [[1, 9, 17]]) - before).abs().max() > 0.01


@pytest.mark.parametrize("family", CLASSES)
def test_merged_logits_are_those_of_peft_unmerged(family: str, tmp_path: Path) -> None:
    check_against_peft(save_with_adapter(tmp_path, family, **KINDS["lora"]))


# peft keeps the base weight of an adapted head with the adapter, and says so.
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_lora_is_merged(kind: str, tmp_path: Path) -> None:
    check_against_peft(save_with_adapter(tmp_path, **KINDS[kind]))


def test_tied_weights_are_left_alone(tmp_path: Path) -> None:
    check_against_peft(save_with_adapter(tmp_path, tied=True, **KINDS["lora"]))


@pytest.mark.parametrize("dtype", ["bf16", "fp64"])
def test_the_sum_is_rounded_once(dtype: str, tmp_path: Path) -> None:
    """Merging while loading gives what a checkpoint merged beforehand gives, bit for bit."""
    directory = save_with_adapter(tmp_path / "apart", **KINDS["lora"])
    wide = {"bf16": torch.float32, "fp64": torch.float64}[dtype]
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=wide)
    merged = PeftModel.from_pretrained(base, str(directory / "adapter")).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    ours = load_causal_lm(directory, DTYPES[dtype])
    beforehand = load_causal_lm(tmp_path / "merged", DTYPES[dtype])
    assert dict(ours.named_parameters()).keys() == dict(beforehand.named_parameters()).keys()
    for mine, other in zip(_tensors(ours), _tensors(beforehand), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


def _tensors(model: Any) -> list[torch.Tensor]:
    """Parameters and buffers: the rotary frequencies are among the latter."""
    return [*model.parameters(), *model.buffers()]


def test_without_peft_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = save_with_adapter(tmp_path, **KINDS["lora"])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "peft" else find_spec(name, *a),
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'specbeam\[adapters\]'"):
        load(directory)


@pytest.mark.parametrize("changes", [{"modules_to_save": ["lm_head"]}, {"modules_to_save": None}])
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`")
def test_a_change_of_one_tied_weight_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    targets = ["q_proj"] if changes["modules_to_save"] else ["q_proj", "lm_head"]
    directory = save_with_adapter(tmp_path, tied=True, target_modules=targets, **changes)
    with pytest.raises(UnsupportedModelError, match="lm_head, whose weight is tied"):
        load(directory)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.filterwarnings("ignore:Found unexpected adapter keys")
def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    directory = save_with_adapter(tmp_path, **KINDS["lora"])
    file = directory / "adapter" / "adapter_model.safetensors"
    weights = {name.replace("layers.2", "layers.7"): w for name, w in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="14 weights are missing and 14 fit nowhere"):
        load(directory)


def test_other_kinds_of_adapters_are_refused(tmp_path: Path) -> None:
    directory = save_with_adapter(tmp_path, **KINDS["lora"])
    path = directory / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(UnsupportedModelError, match="peft_type 'PREFIX_TUNING'"):
        load(directory)


def test_missing_weights_are_an_os_error(tmp_path: Path) -> None:
    directory = save_with_adapter(tmp_path, **KINDS["lora"])
    (directory / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model.safetensors is missing"):
        load(directory)
