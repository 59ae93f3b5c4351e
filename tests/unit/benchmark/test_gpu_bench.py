"""The GPU benchmark runs end to end at toy size on a CPU, and says that it was one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from specbeam.benchmark.gpu.__main__ import main
from specbeam.benchmark.gpu.spec import TOY, GpuBenchSpec
from specbeam.benchmark.gpu.statistics import paired_ratio
from specbeam.benchmark.gpu.worlds import load_histories, save_histories
from specbeam.benchmark.settings import PREFIXES
from specbeam.engine import ModelRunner, RunnerConfig
from specbeam.engine.static_decoder import StaticDecoder
from specbeam.engine.transformers_adapter import load_causal_lm
from tests.bundles import exact_norms, random_prompt, tiny_bundle


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    directory = tmp_path_factory.mktemp("results")
    assert main(["--toy", "--out", str(directory)]) == 0
    return json.loads((directory / "gpu-toy.json").read_text())


def test_it_says_what_was_measured_and_what_it_means(result):
    assert result["label"].startswith("target = toy shape, function of a Llama")
    assert "acceptance means nothing" in result["acceptance"]
    assert result["graphs"] == "none: static shapes, kernel by kernel, on a CPU"
    assert result["conditions"]["device"] == "cpu"
    assert result["conditions"]["gpu"] is None
    assert result["fp32_check"]["same_beams"] == TOY.checks


def test_every_bucket_is_made_before_anything_is_timed(tmp_path, monkeypatch):
    made = []
    real = StaticDecoder._pass_of

    def watch(self, rows, positions):
        before = len(self._passes)
        found = real(self, rows, positions)
        made.append(len(self._passes) - before)
        return found

    monkeypatch.setattr(StaticDecoder, "_pass_of", watch)
    assert main(["--toy", "--no-a0", "--checks", "0", "--out", str(tmp_path)]) == 0
    recording = json.loads((tmp_path / "gpu-toy.json").read_text())["recording"]
    assert sum(made) == recording["passes"] == sum(made[: recording["passes"]])
    assert len(made) > recording["passes"]


def test_the_cost_table_has_every_shape(result):
    shapes = {(p["rows"], p["prefix_tokens"]) for p in result["costs"]["points"]}
    assert shapes == {(r, p) for r in TOY.rows for p in TOY.prefix_tokens}
    assert {p["prompt_tokens"] for p in result["costs"]["prompts"]} == set(TOY.prompt_tokens)
    for point in result["costs"]["points"]:
        assert point["median_ms"].keys() == {"graphs", "eager"}
        assert min(point["median_ms"].values()) > 0


def test_every_way_answers_alike_from_every_state_of_the_prompt(result):
    cells = result["cells"]
    assert {(c["k"], c["prompt_tokens"], c["prefix"]) for c in cells} == {
        (k, p, prefix) for k in TOY.widths for p in TOY.prompt_tokens for prefix in PREFIXES
    }
    for cell in cells:
        ways = {"a1", "a1_eager", "speculative_model", "speculative_model_eager"}
        ways |= {"union", "chosen", "exact_sampling", "relaxed_sampling"}
        assert set(cell["median_ms"]) == ways | ({"a0"} if cell["prefix"] == "cold" else set())
        assert cell["requests"]["a1"] == TOY.requests
        for way, same in cell["same_as_a1"].items():
            assert same["identical"] == same["of"] == cell["requests"][way], (cell, way)
            ratio = cell["a1_over"][way]
            assert ratio["low"] <= ratio["median"] <= ratio["high"]


def test_passes_are_counted_at_the_model(result):
    passes = {(c["k"], c["prompt_tokens"], c["prefix"]): c["mean_passes"] for c in result["cells"]}
    for k in TOY.widths:
        for tokens in TOY.prompt_tokens:
            cold, cached, ready = (passes[k, tokens, prefix] for prefix in PREFIXES)
            assert cold["a1"] == cached["a1"] == 4
            assert ready["a1"] == 3
            # Its own small form drafts for the target: one pass settles what one pass can.
            assert cold["speculative_model"] < cold["a1"]
            assert cold["speculative_model"] == ready["speculative_model"] + 1


def test_without_a_gpu_it_says_so(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main(["--out", str(tmp_path)]) == 3
    assert "--toy" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bundle_may_be_carried(tmp_path, capsys):
    bundle = tiny_bundle(dtype="fp32")
    users = [np.arange(9), np.arange(20, 40)]
    save_histories(tmp_path / "users.npz", users)
    arguments = ["--device", "cpu", "--dtype", "fp32", "--k", "3", "--prompts", "9", "--no-a0"]
    arguments += [
        "--rows",
        "2",
        "--prefixes",
        "9",
        "--requests",
        "2",
        "--checks",
        "1",
        "--out",
        str(tmp_path),
    ]
    carried = ["--bundle", str(bundle.path), "--histories", str(tmp_path / "users.npz")]
    assert main([*arguments, *carried, "--shapes", "toy"]) == 0
    result = json.loads((tmp_path / "gpu-toy.json").read_text())
    assert result["acceptance"] == "acceptance of the bundle's drafters; test users"
    assert [cell["requests"]["a1"] for cell in result["cells"]] == [2, 2, 2]
    assert main([*arguments, "--bundle", str(tmp_path), "--shapes", "toy"]) == 3
    assert "is not a bundle" in capsys.readouterr().err


@pytest.mark.parametrize("graphs", [False, True])
def test_a_prompt_in_place_gives_the_same_root(graphs):
    bundle = tiny_bundle()
    config = RunnerConfig(dtype="fp64", slots=1, max_prompt_tokens=201, max_rows=20, graphs=graphs)
    with exact_norms():
        runner = ModelRunner(load_causal_lm(bundle.target_dir, torch.float64), config)
        for seed in range(3):
            prompt = random_prompt(bundle, seed, 5)
            cold = runner.prefill(0, prompt).clone()
            states = runner.pool.view(0)[:, :, :, : len(prompt)].clone()
            again = runner.prefill(0, prompt, held=len(prompt) - 4)
            torch.testing.assert_close(again, cold, atol=1e-12, rtol=0)
            now = runner.pool.view(0)[:, :, :, : len(prompt)]
            torch.testing.assert_close(now, states, atol=1e-12, rtol=0)


def test_a_ratio_is_paired_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    load = rng.uniform(1, 50, 200)  # requests differ far more than the two ways
    slow, fast = 2 * load * rng.normal(1, 0.01, 200), load
    found = paired_ratio(slow.tolist(), fast.tolist(), seed=1)
    assert found["low"] < 2 < found["high"]
    assert found["high"] - found["low"] < 0.02
    assert paired_ratio([4.0], [2.0, 9.0], seed=0) == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_row_budgets_grow_with_k():
    spec = GpuBenchSpec()
    assert [spec.budget(k) for k in (1, 5, 10, 20, 50, 256, 2000)] == [
        128, 128, 128, 256, 640, 1024, 2000
    ]  # fmt: skip


def test_histories_come_back(tmp_path):
    users = [np.array([3, 1]), np.array([7]), np.array([2, 2, 9])]
    save_histories(tmp_path / "users.npz", users)
    found = load_histories(tmp_path / "users.npz")
    assert [user.tolist() for user in found] == [user.tolist() for user in users]
