"""Passes of fixed shapes equal ordinary ones, and rows that fill up touch nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.decoding.scoring import Scoring
from specbeam.engine import (
    ModelRunner,
    RunnerConfig,
    SearchModel,
    SearchSpec,
    SpeculationSpec,
    plain_search,
    speculative_search,
    static_decoder,
)
from specbeam.engine.static_decoder import slot_positions
from tests.bundles import exact_norms, random_prompt, tiny_bundle
from tests.unit.engine.models import CLASSES, RandomTree, runner_of, tiny_model

PROMPT = np.array([1, 9, 17, 30, 4])
TOLERANCE = {"fp32": 2e-5, "bf16": 0.15, "fp64": 1e-12}


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    """Many buckets, so that passes fall into different ones."""
    monkeypatch.setattr(static_decoder, "ROW_BUCKETS", (4, 8, 16, 32))
    monkeypatch.setattr(static_decoder, "POSITION_BUCKETS", (16, 24, 48, 128))


def run_passes(runner, slot, seed):
    """Passes of different sizes with a pruning between them, and the final K/V that are read."""
    tree = RandomTree(runner, slot, PROMPT, seed)
    logits = [tree.root, tree.grow(9), tree.grow(1)]
    tree.keep([3, 7, 9])
    logits += [tree.grow(16), tree.grow(5)]
    end = len(PROMPT) + len(tree.paths)
    return logits, runner.pool.view(slot)[:, :, :, :end].clone()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", CLASSES)
def test_logits_and_kv_equal_the_ordinary_pass(family, dtype):
    model = tiny_model(family)
    ordinary, static = runner_of(model, dtype), runner_of(model, dtype, graphs=True)
    assert ordinary.static is None
    for seed, slot in ((0, 1), (1, 0), (2, 1)):
        wanted, kept = run_passes(ordinary, slot, seed)
        found, held = run_passes(static, slot, seed)
        for ours, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, expected, atol=TOLERANCE[dtype], rtol=0)
        torch.testing.assert_close(held, kept, atol=TOLERANCE[dtype], rtol=0)
    assert len(ordinary.meter.take()) == len(static.meter.take()) == 15


def test_nothing_but_the_pass_own_rows_and_the_unread_place_is_written():
    runner = runner_of(tiny_model("llama"), "fp64", graphs=True)
    runner.pool.data.normal_()
    tree = RandomTree(runner, 1, PROMPT, 0)
    before = runner.pool.data.clone()
    tree.grow(5)
    assert torch.equal(runner.pool.data[0], before[0])
    changed = (runner.pool.data[1] != before[1]).any(dim=(0, 1, 2, 4)).nonzero().flatten().tolist()
    assert changed == [5, 6, 7, 8, 9, runner.pool.geometry.positions - 1]


def test_what_no_row_may_see_is_not_read():
    model = tiny_model("llama")
    clean, full = (runner_of(model, "fp64", graphs=True) for _ in range(2))
    full.pool.data.fill_(1e30)
    for ours, expected in zip(run_passes(full, 0, 3)[0], run_passes(clean, 0, 3)[0], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


def test_every_row_of_a_bucket_sees_something(monkeypatch):
    """Where a row sees nothing some kernels give NaN, which even a shut mask lets through."""
    masks = []
    real = static_decoder.attend

    def attend(queries, held, mask, scale):
        masks.append(mask)
        return real(queries, held, mask, scale)

    monkeypatch.setattr(static_decoder, "attend", attend)
    runner = runner_of(tiny_model("llama"), "fp64", graphs=True)
    run_passes(runner, 0, 0)
    assert masks
    assert all((mask == 0).any(dim=-1).all() for mask in masks)


def test_rows_may_stand_in_any_order():
    runner = runner_of(tiny_model("llama"), "fp64", graphs=True)
    runner.prefill(0, PROMPT)
    tokens, positions = np.array([20, 21, 22, 23, 24, 25]), np.array([5, 6, 5, 6, 7, 5])
    parents = [-1, 0, -1, 2, 3, -1]
    sees = np.eye(6, dtype=bool)
    for row, parent in enumerate(parents):
        if parent >= 0:
            sees[row] |= sees[parent]
    first = runner.forward_rows(0, 5, tokens, positions, sees)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        found = runner.forward_rows(0, 5, tokens[order], positions[order], sees[order][:, order])
        torch.testing.assert_close(found, first[torch.from_numpy(order)], atol=1e-12, rtol=0)


def test_a_result_outlives_the_next_replay(monkeypatch):
    runner = runner_of(tiny_model("llama"), "fp64", graphs=True)
    runner.prefill(0, PROMPT)

    def start(static):
        """As a graph does: every replay gives the same tensor, with other content."""
        result = static.compute()
        return lambda: result.copy_(static.compute())

    monkeypatch.setattr(runner.static, "_start", start)
    alone = np.ones((1, 1), bool)
    first = runner.forward_rows(0, 5, np.array([7]), np.array([5]), alone)
    kept = first.clone()
    second = runner.forward_rows(0, 5, np.array([8]), np.array([5]), alone)
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("rows", [1, 4, 5, 31, 32, 33, 60])
def test_every_number_of_rows_is_run(rows):
    model = tiny_model("llama")
    ordinary, static = runner_of(model, "fp64"), runner_of(model, "fp64", graphs=True)
    # Larger passes than the largest bucket take the ordinary way.
    assert static.static.holds(rows, 24 + rows) == (rows <= 32)
    logits = [RandomTree(r, 0, np.arange(1, 25), 4).grow(rows) for r in (ordinary, static)]
    torch.testing.assert_close(*logits, atol=1e-12, rtol=0)


def test_buckets_are_prepared_once(monkeypatch):
    runner = runner_of(tiny_model("llama"), graphs=True)
    made = []

    def start(static):
        made.append((static.rows, static.positions))
        return static.compute

    monkeypatch.setattr(runner.static, "_start", start)
    for rows, positions in ((3, 10), (4, 16), (5, 16), (30, 84)):
        runner.static.prepare(rows, positions)
    assert made == [(4, 16), (8, 16), (32, 128)]
    run_passes(runner, 0, 0)
    used = list(made)
    run_passes(runner, 1, 0)
    assert made == used
    assert len(set(made)) == len(made)
    assert set(made) <= set(runner.static.buckets)


def test_slots_hold_the_unread_place():
    assert slot_positions(127) == 128
    assert slot_positions(128) == 256
    runner = runner_of(tiny_model("llama"), graphs=True)
    assert runner.pool.geometry.positions == 128


def test_graphs_are_a_choice():
    model = tiny_model("llama")
    assert runner_of(model, graphs="auto").static is None  # no CUDA device asked for
    with pytest.raises(ValueError, match="graphs is 'yes'"):
        RunnerConfig(graphs="yes")


@pytest.mark.parametrize("kind", ["VOCAB", "TRIE"])
def test_whole_searches_are_the_same(kind):
    bundle = tiny_bundle()
    with exact_norms():
        targets, drafts = [], []
        for graphs in (False, True):
            config = RunnerConfig(
                dtype="fp64", slots=1, max_prompt_tokens=201, max_rows=300, graphs=graphs
            )
            for directory, models in (
                (bundle.target_dir, targets),
                (bundle.drafter_dir("default"), drafts),
            ):
                runner = ModelRunner.load(directory, config)
                models.append(SearchModel.of(runner, bundle.trie, Scoring(kind)))
        for seed in range(8):
            spec = SearchSpec(random_prompt(bundle, seed), 6)
            wanted = plain_search(targets[0], spec).beams
            for found in (
                plain_search(targets[1], spec).beams,
                speculative_search(targets[1], drafts[1], spec, SpeculationSpec(40)).beams,
            ):
                assert np.array_equal(found.nodes, wanted.nodes)
                np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-11)
