"""Every family and rotary type: a row's logits are those of a plain forward of its whole path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from specbeam.engine import linear
from tests.exactness.models import norms_in_fp64
from tests.unit.engine.models import (
    CLASSES,
    ROTARY,
    RandomTree,
    plain_logits,
    runner_of,
    tiny_model,
)

Record = Callable[[str, object], None]

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one-key-head": ("llama", {"num_key_value_heads": 1}),
    "as-many-key-heads": ("qwen3", {"num_key_value_heads": 4}),
    "biases-everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen3-biases": ("qwen3", {"attention_bias": True}),
    "tied": ("qwen2", {"tie_word_embeddings": True}),
    "heads-add-up": ("llama", {"head_dim": 6}),
    "wide-heads": ("mistral", {"head_dim": 16}),
    "gelu": ("llama", {"hidden_act": "gelu"}),
    "window-of-mistral": ("mistral", {"sliding_window": 32}),
    "window-of-qwen2": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    ),
    "window-of-qwen3": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0},
    ),
}


@pytest.fixture(params=["plain", "packed"])
def weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of multiplication; the weights here are smaller than what is packed."""
    if request.param == "packed":
        if not linear.can_pack(torch.float32):
            pytest.skip("this CPU or build packs no fp32 weights")
        monkeypatch.setattr(linear, "_SMALLEST_PACKED_FP32", 1)
    return str(request.param)


def random_prompt(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([[1], rng.integers(3, 61, int(rng.integers(0, 23)))])


def check_trees(model: Any, dtype: str, tolerance: float, seeds: int) -> float:
    """Grow trees over several passes and prunings; the largest difference from plain forwards."""
    runner = runner_of(model, dtype)
    largest = 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        at_once = (0, 6)[seed % 2]
        tree = RandomTree(runner, 0, random_prompt(rng), seed, at_once)
        expected = plain_logits(model, [tree.prompt.tolist(), *tree.sequences(range(at_once))])
        logits = torch.cat([tree.root, tree.first]).double()
        largest = max(largest, float((logits - expected).abs().max()))
        for count in (1, 7, 19):
            held = len(tree.paths)
            logits = tree.grow(count).double()
            expected = plain_logits(model, tree.sequences(range(held, held + count)))
            largest = max(largest, float((logits - expected).abs().max()))
            tree.keep(rng.choice(len(tree.paths), 2).tolist())
    assert largest <= tolerance
    return largest


@pytest.mark.parametrize("rotary", ROTARY)
@pytest.mark.parametrize("family", CLASSES)
def test_rows_equal_plain_forwards(family: str, rotary: str, weights: str) -> None:
    check_trees(tiny_model(family, rotary), "fp32", 1e-5, seeds=2)


@pytest.mark.parametrize("rotary", ["linear", "llama3", "yarn", "longrope"])
def test_scaled_rotary_types_matter_here(rotary: str) -> None:
    sequence = [[1, *range(3, 23)]]
    scaled, plain = (tiny_model("llama", kind) for kind in (rotary, "default"))
    assert (plain_logits(scaled, sequence) - plain_logits(plain, sequence)).abs().max() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_plain_forwards_in_every_variant(variant: str, weights: str) -> None:
    family, other = VARIANTS[variant]
    check_trees(tiny_model(family, **other), "fp32", 1e-5, seeds=2)


@pytest.mark.parametrize("rotary", ["default", "yarn"])
@pytest.mark.parametrize("family", CLASSES)
def test_fp64_is_fp64_throughout(family: str, rotary: str) -> None:
    # transformers' eager softmax and its norms are fp32 whatever the type; ours are not.
    model = tiny_model(family, rotary, attn_implementation="sdpa").double()
    norms_in_fp64(model)
    check_trees(model, "fp64", 1e-11, seeds=2)


@pytest.mark.parametrize("family", CLASSES)
def test_bf16_is_as_close_as_transformers_own(family: str, record_property: Record) -> None:
    model = tiny_model(family).bfloat16()
    exact = tiny_model(family)
    exact.load_state_dict(model.state_dict())
    ours, theirs = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tree = RandomTree(runner_of(model, "bf16"), 0, random_prompt(rng), seed)
        logits = tree.grow(20).double()
        sequences = tree.sequences(range(20))
        expected = plain_logits(exact, sequences)
        ours.append(float((logits - expected).abs().mean()))
        theirs.append(float((plain_logits(model, sequences) - expected).abs().mean()))
    record_property("mean_error_ours", float(np.mean(ours)))
    record_property("mean_error_transformers", float(np.mean(theirs)))
    print(f"bf16 {family}: mean error {np.mean(ours):.1e}, transformers {np.mean(theirs):.1e}")
    assert np.mean(ours) < 1.5 * np.mean(theirs)


@pytest.mark.parametrize("at_once", [0, 8])
@pytest.mark.parametrize("rotary", ["default", "llama3"])
@pytest.mark.parametrize("family", CLASSES)
def test_kv_after_compaction_equals_a_fresh_prefill(
    family: str, rotary: str, at_once: int, weights: str
) -> None:
    runner = runner_of(tiny_model(family, rotary))
    rng = np.random.default_rng(3)
    tree = RandomTree(runner, 1, random_prompt(rng), 3, at_once)
    tree.grow(9)
    tree.keep([5])
    tree.grow(12)
    deepest = int(np.argmax([len(path) for path in tree.paths]))
    tree.keep([deepest])
    (path,) = tree.sequences(range(len(tree.paths) - 1, len(tree.paths)))
    held = runner.pool.view(1)[:, :, :, : len(path)].clone()
    runner.prefill(0, np.array(path))
    fresh = runner.pool.view(0)[:, :, :, : len(path)]
    torch.testing.assert_close(held, fresh, atol=1e-5, rtol=0)


def test_a_position_beyond_prompt_and_item_is_refused() -> None:
    runner = runner_of(tiny_model("llama"))
    runner.prefill(0, np.array([1, 5]))
    see = np.ones((1, 1), bool)
    runner.forward_rows(0, 2, np.array([7]), np.array([24 + 8 - 1]), see)
    with pytest.raises(ValueError, match="position 32 is beyond the 32"):
        runner.forward_rows(0, 2, np.array([7]), np.array([32]), see)
    with pytest.raises(ValueError, match="position 32 is beyond the 32"):
        runner.prefill_with_rows(0, np.array([1, 5]), np.array([7]), np.array([32]), see)
