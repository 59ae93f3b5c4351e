"""What the engine does not run is refused by type, before anything wrong can be computed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from specbeam.engine import (
    ContextTooShortError,
    ModelRunner,
    RunnerConfig,
    UnsupportedModelError,
)
from tests.unit.engine.models import POSITIONS, runner_of, tiny_model

CONFIG = RunnerConfig(slots=1, max_prompt_tokens=24, max_rows=8, max_item_tokens=8)


def saved(tmp_path: Path, **changes: Any) -> Path:
    tiny_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    return tmp_path


def test_a_saved_checkpoint_is_loaded_in_every_dtype(tmp_path: Path) -> None:
    for dtype in ("fp32", "bf16", "fp64"):
        runner = ModelRunner.load(saved(tmp_path), replace(CONFIG, dtype=dtype))
        assert runner.pool.view(0).dtype == runner.dtype
        assert (runner.hidden_size, runner.vocab_size) == (24, 61)
        assert runner.head_weight is not None
        assert runner.head_weight.shape == (61, 24)
        assert runner.head_bias is None


@pytest.mark.parametrize("family", ["gpt2", "never-heard-of", None])
def test_another_family_is_refused_naming_the_known_ones(tmp_path: Path, family: str) -> None:
    with pytest.raises(UnsupportedModelError, match="llama, mistral, qwen2, qwen3"):
        ModelRunner.load(saved(tmp_path, model_type=family), CONFIG)


def test_a_model_of_another_family_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20))
    with pytest.raises(UnsupportedModelError, match="model_type is 'gpt2'"):
        ModelRunner(model, CONFIG)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    changes = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    with pytest.raises(UnsupportedModelError, match="quantised"):
        ModelRunner.load(saved(tmp_path, **changes), CONFIG)


def test_a_missing_checkpoint_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        ModelRunner.load(tmp_path / "nothing", CONFIG)


def test_a_projection_that_is_not_a_plain_linear_layer_is_refused() -> None:
    class Other(nn.Linear):
        pass

    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj = Other(40, 24, bias=False)
    with pytest.raises(UnsupportedModelError, match="a projection is a Other"):
        runner_of(model)


def test_prompt_and_item_must_fit_the_positions() -> None:
    model = tiny_model("qwen2")
    runner_of(model, max_prompt_tokens=POSITIONS - 8)
    with pytest.raises(ContextTooShortError, match="need 65 positions, the model has 64"):
        runner_of(model, max_prompt_tokens=POSITIONS - 7)


WINDOWS = {
    "mistral": {"sliding_window": 31},
    "qwen2": {"use_sliding_window": True, "sliding_window": 31, "max_window_layers": 2},
    "qwen3": {"use_sliding_window": True, "sliding_window": 31, "max_window_layers": 0},
}


@pytest.mark.parametrize("family", WINDOWS)
def test_prompt_and_item_must_fit_the_window(family: str) -> None:
    model = tiny_model(family, **WINDOWS[family])
    runner_of(model, max_prompt_tokens=23)
    with pytest.raises(ContextTooShortError, match="sliding window of 31 tokens"):
        runner_of(model, max_prompt_tokens=24)


def test_a_window_no_layer_uses_does_not_matter() -> None:
    none = tiny_model("qwen2", use_sliding_window=False, sliding_window=4)
    runner_of(none)
    above = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3}
    runner_of(tiny_model("qwen3", **above))


def test_rotary_that_changes_with_length_is_refused_where_it_would() -> None:
    model = tiny_model("llama", "longrope")
    model.config.rope_parameters["original_max_position_embeddings"] = 31
    runner_of(model, max_prompt_tokens=23)
    with pytest.raises(ContextTooShortError, match="exceed 31 tokens, from where on the angles"):
        runner_of(model, max_prompt_tokens=24)
    with pytest.raises(ContextTooShortError, match="need 65 positions"):
        runner_of(tiny_model("llama", "dynamic"), max_prompt_tokens=57)


def test_unknown_rotary_types_are_refused() -> None:
    model = tiny_model("llama")
    model.config.rope_parameters["rope_type"] = "proportional"
    with pytest.raises(UnsupportedModelError, match="rope_type is 'proportional'"):
        runner_of(model)


def test_a_rotary_embedding_of_part_of_a_head_is_refused() -> None:
    rope = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.5}
    with pytest.raises(UnsupportedModelError, match="turns 4 of a head's 8 dimensions"):
        runner_of(tiny_model("llama", rope_parameters=rope))


def test_other_kinds_of_attention_are_refused() -> None:
    model = tiny_model("qwen3", use_sliding_window=True, sliding_window=64)
    model.config.layer_types = ["full_attention", "chunked_attention", "sliding_attention"]
    with pytest.raises(UnsupportedModelError, match="layer_types has chunked_attention"):
        runner_of(model)


def test_a_head_that_is_no_plain_linear_layer_is_called_as_a_whole() -> None:
    class Doubled(nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden)

    model = tiny_model("llama")
    head = Doubled(24, 61, bias=False)
    head.weight = model.lm_head.weight
    hidden = torch.randn(3, 24)
    once = runner_of(model).logits(hidden)
    model.lm_head = head
    runner = runner_of(model)
    assert runner.head_weight is None
    torch.testing.assert_close(runner.logits(hidden), 2 * once)
