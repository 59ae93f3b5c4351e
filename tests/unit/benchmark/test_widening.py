"""A widened model gives the small one's logits, and no correction of the construction is idle."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from specbeam.benchmark.shapes import SHAPES, ModelShape
from specbeam.benchmark.widening import WideningError, fit_shape
from specbeam.benchmark.widening import target as target_module
from specbeam.benchmark.widening.checks import LOGIT_BOUND
from specbeam.benchmark.widening.fit import shape_of
from specbeam.benchmark.widening.plan import powers_of_two
from specbeam.benchmark.widening.target import WideTarget
from tests.bundles import exact_norms
from tests.unit.engine.models import VOCAB, tiny_model

# The small model: 24 wide, 3 layers, 4 query heads of 8 on 2 key heads, MLP of 40.
SHAPES_TO_TRY = {
    "copied twice": ModelShape(48, 5, 4, 2, 8, 64),
    "copied three times, head dim x 2": ModelShape(72, 6, 4, 2, 16, 50),
    "some dims unused": ModelShape(60, 4, 4, 2, 8, 41),
    "hardly wider, head dim x 4": ModelShape(32, 3, 8, 4, 32, 40),
    "a key head for every query": ModelShape(96, 3, 8, 8, 8, 44),
    "many queries on a key head": ModelShape(48, 4, 12, 2, 16, 40),
    "queries split unevenly": ModelShape(48, 3, 9, 3, 8, 40),
}
FITTING = [name for name in SHAPES_TO_TRY if name != "queries split unevenly"]


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def checkpoint(request, tmp_path_factory):
    """A random checkpoint with norms far from one, and its model in fp32."""
    model = tiny_model("llama", tie_word_embeddings=request.param, initializer_range=0.4)
    directory = tmp_path_factory.mktemp("small")
    model.save_pretrained(directory)
    return directory


def small_model(checkpoint, dtype):
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()


def tokens(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(3, VOCAB, (4, 37)))


@torch.inference_mode()
def difference(small, wide):
    ids = tokens()
    found, wanted = wide(ids).logits, small(ids).logits
    assert wanted.abs().max() > 3  # a bound says nothing about logits that are all near zero
    return float((found - wanted).abs().max())


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize(("gate", "bound"), [("zero", 1e-11), ("tiny", 1e-8)])
def test_logits_are_the_small_models(checkpoint, name, gate, bound):
    shape = SHAPES_TO_TRY[name]
    with exact_norms():
        for seed in range(3):
            wide = WideTarget.of(checkpoint, shape, gate, seed).build(torch.float64)
            assert difference(small_model(checkpoint, torch.float64), wide) < bound


@pytest.mark.parametrize("rotary", ["linear", "llama3"])
def test_scaled_rotary_embeddings_carry_over(tmp_path, rotary):
    tiny_model("llama", rotary, initializer_range=0.4).save_pretrained(tmp_path)
    shape = SHAPES_TO_TRY["hardly wider, head dim x 4"]
    with exact_norms():
        wide = WideTarget.of(tmp_path, shape, "zero").build(torch.float64)
        assert difference(small_model(tmp_path, torch.float64), wide) < 1e-4


def test_fp32_stays_within_the_bound(checkpoint):
    wide = WideTarget.of(checkpoint, SHAPES_TO_TRY["some dims unused"]).build(torch.float32)
    assert difference(small_model(checkpoint, torch.float32), wide) < LOGIT_BOUND


def undo_epsilon(model, plan):
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-6


def undo_gain(model, plan):
    used = plan.fit.copies * plan.small.hidden / plan.large.hidden
    for layer in model.model.layers:
        layer.input_layernorm.weight.data /= used**0.5
        layer.post_attention_layernorm.weight.data /= used**0.5


def undo_final_gain(model, plan):
    model.model.norm.weight.data *= plan.fit.copies


def undo_query_scale(model, plan):
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data /= plan.fit.head_factor**0.5


def undo_rotary_stride(model, plan):
    """Put pair i where pair i is, instead of where its frequency is."""
    factor, dim = plan.fit.head_factor, plan.large.head_dim
    pairs = np.arange(dim // 2)
    strided = np.concatenate([pairs[::factor], np.delete(pairs, pairs[::factor])])
    order = np.argsort(np.concatenate([strided, strided + dim // 2]))
    back = np.argsort(order)
    for layer in model.model.layers:
        for module in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            by_head = module.weight.data.view(-1, dim, plan.large.hidden)
            module.weight.data = by_head[:, back].reshape(module.weight.shape)


@pytest.mark.parametrize(
    "undo", [undo_epsilon, undo_gain, undo_final_gain, undo_query_scale, undo_rotary_stride]
)
def test_without_one_correction_the_bound_is_broken(tmp_path, undo):
    small = tiny_model("llama", tie_word_embeddings=True, initializer_range=0.4)
    # As small as trained embeddings are, so that the norms' epsilon matters.
    small.model.embed_tokens.weight.data *= 0.02
    small.model.norm.weight.data *= 40
    small.save_pretrained(tmp_path)
    shape = dataclasses.replace(SHAPES_TO_TRY["hardly wider, head dim x 4"], hidden=56)
    target = WideTarget.of(tmp_path, shape)
    assert target.plan.fit.copies == 2
    small, wide = small_model(tmp_path, torch.float32), target.build(torch.float32)
    assert difference(small, wide) < LOGIT_BOUND
    undo(wide, target.plan)
    assert difference(small, wide) > 10 * LOGIT_BOUND


def test_no_weight_is_zero_and_free_parts_are_as_large_as_live_ones(checkpoint):
    target = WideTarget.of(checkpoint, SHAPES_TO_TRY["hardly wider, head dim x 4"])
    wide = target.build(torch.float32)
    for name, parameter in wide.named_parameters():
        # The small model's own padding token has no embedding.
        assert (parameter[1:] if "embed" in name else parameter).all(), name
    with torch.inference_mode():
        cache = wide(tokens(), use_cache=True).past_key_values
    for layer in cache.layers:
        for held in (layer.keys, layer.values):
            spread = held.std(dim=(0, 2, 3))
            assert spread.max() < 8 * spread.min()


def test_a_written_checkpoint_is_the_model_in_memory(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(target_module, "_SHARD_BYTES", 40_000)
    target = WideTarget.of(checkpoint, SHAPES_TO_TRY["copied twice"], seed=3)
    told = []
    target.write(tmp_path, torch.bfloat16, advance=lambda done, total: told.append((done, total)))
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    stored = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).state_dict()
    built = target.build(torch.bfloat16).state_dict()
    assert stored.keys() == built.keys()
    assert all(torch.equal(stored[name], built[name]) for name in stored)
    assert told == [(n, len(told)) for n in range(1, len(told) + 1)]


def test_a_seed_is_one_model(checkpoint):
    shape = SHAPES_TO_TRY["copied twice"]
    first, again, other = (
        WideTarget.of(checkpoint, shape, seed=seed).build(torch.float32).lm_head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_powers_of_two_sum_to_one():
    for count in range(1, 40):
        parts = powers_of_two(count)
        assert len(parts) == count
        assert parts.sum() == 1
        assert (np.log2(parts) % 1 == 0).all()


def test_what_does_not_fit_is_named():
    small = ModelShape(24, 3, 4, 2, 8, 40)
    with pytest.raises(
        WideningError, match=r"hidden size 16 < 24, layers 2 < 3, MLP width 39 < 40"
    ):
        fit_shape(small, ModelShape(16, 2, 4, 2, 8, 39))
    with pytest.raises(WideningError, match="key/value heads 3 < 4"):
        fit_shape(small, ModelShape(24, 3, 3, 3, 8, 40))
    with pytest.raises(WideningError, match="head dim 12 is no multiple of 8"):
        fit_shape(small, ModelShape(24, 3, 4, 2, 12, 40))


@pytest.mark.parametrize(
    ("family", "rotary", "other", "reason"),
    [
        ("qwen2", "default", {}, "only llama"),
        ("llama", "yarn", {}, "yarn"),
        ("llama", "default", {"attention_bias": True}, "biases"),
    ],
)
def test_what_would_not_be_the_same_function_is_refused(tmp_path, family, rotary, other, reason):
    tiny_model(family, rotary, **other).save_pretrained(tmp_path)
    with pytest.raises(WideningError, match=reason):
        WideTarget.of(tmp_path, SHAPES_TO_TRY["copied twice"])


def test_the_served_small_shape_fits_every_large_one():
    small = ModelShape(256, 6, 8, 2, 32, 512)
    for name, shape in SHAPES.items():
        if name != "toy":
            fit = fit_shape(small, shape)
            assert fit.unused == 0, name
            assert fit.kv_heads_needed <= shape.kv_heads


def test_named_shapes_are_as_large_as_their_names():
    sizes = {"86m": 86e6, "155m": 155e6, "310m": 310e6, "0.5b": 0.5e9, "1.5b": 1.5e9, "7b": 7e9}
    for name, size in sizes.items():
        shape = SHAPES[name]
        attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
        parameters = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
        assert 0.85 < parameters / size < 1.05, name


def test_every_small_dim_is_carried_as_often(checkpoint):
    plan = WideTarget.of(checkpoint, SHAPES_TO_TRY["some dims unused"]).plan
    residual = plan.residual
    for dim in range(plan.small.hidden):
        copies = residual.source == dim
        assert copies.sum() == plan.fit.copies
        assert residual.share[copies].sum() == 1
    for place, kind in itertools.product(range(plan.large.layers), ["queries", "neurons"]):
        if plan.layers[place] >= 0:
            rows = getattr(plan.layer_map(place), kind)
            live = rows[rows >= 0]
            assert np.array_equal(np.sort(live), np.arange(len(live)))


def test_shape_of_a_checkpoint(checkpoint):
    model = small_model(checkpoint, torch.float32)
    assert isinstance(model, LlamaForCausalLM)
    assert shape_of(model.config.to_dict()) == ModelShape(24, 3, 4, 2, 8, 40)
