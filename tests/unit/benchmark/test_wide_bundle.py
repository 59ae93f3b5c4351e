"""A widened bundle gives the small one's answers, and its drafters propose the same."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest
import torch

from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.shapes import SHAPES, ModelShape
from specbeam.benchmark.widening import WideningError, WideningPlan
from specbeam.benchmark.widening.bundle import WideBundleSpec, plan_widening, write_wide_bundle
from specbeam.benchmark.widening.checks import SameFunction, compare
from specbeam.benchmark.widening.root_head import widen_root_head
from specbeam.benchmark.widening.timing import timing_control
from specbeam.bundle import load_bundle
from specbeam.bundle.neighbours import NeighbourTable, save_neighbours
from specbeam.bundle.rewriting import with_drafter
from specbeam.cli import exit_codes
from specbeam.cli.bench_widen import SHAPE_NAMES
from specbeam.cli.main import run
from specbeam.engine import BeamSession
from specbeam.engine.root_head_files import RootHeadConfig, load_root_head, save_root_head
from tests.bundles import random_prompt, tiny_bundle

SPEC = WideBundleSpec("toy", seed=5)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A bundle with a drafter of every kind, and one of a kind nobody knows."""
    whole = tiny_bundle(dtype="fp32")
    directory = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    offsets = np.arange(whole.trie.num_items + 1) * 3
    items = rng.integers(0, whole.trie.num_items, offsets[-1]).astype(np.int32)
    weights = rng.integers(1, 65536, offsets[-1]).astype(np.uint16)
    save_neighbours(NeighbourTable(offsets, items, weights), directory / "near", whole.trie, {})
    for name in ("head", "strange"):
        (directory / name).mkdir()
    manifest = whole.manifest
    random_head(directory / "head", 32, manifest.vocab_size, manifest.fingerprints.model)
    (directory / "strange/drafter.json").write_text('{"kind": "strange"}')
    path = directory / "bundle"
    with_drafter(whole, path, "head", directory / "head")
    with_drafter(load_bundle(path), path, "cooccurrence", directory / "near")
    return with_drafter(load_bundle(path), path, "strange", directory / "strange", {"a": 1})


def random_head(directory, hidden, vocab_size, target):
    """Epsilons so large that they matter."""
    config = RootHeadConfig(hidden, vocab_size, 3, 6, target, 0.2, 0.05)
    torch.manual_seed(1)
    blocks = config.make_blocks()
    for name, parameter in blocks.named_parameters():
        parameter.data.uniform_(0.5, 1.5) if "norm" in name else parameter.data.normal_(std=0.3)
    save_root_head(directory, config, blocks)
    return blocks


@pytest.fixture(scope="module")
def wide(small, tmp_path_factory):
    destination = tmp_path_factory.mktemp("wide") / "bundle"
    return write_wide_bundle(small, plan_widening(small, SPEC), destination, SPEC)


def prompts(bundle):
    return [random_prompt(bundle, seed, 1 + seed) for seed in range(24)]


def test_logits_and_beams_are_the_small_ones(small):
    found = compare(small, plan_widening(small, SPEC), prompts(small))
    found.require()
    assert found.same_beams == found.prompts == 24
    assert found.logit_difference < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [({"logit_difference": 2e-4}, "logits differ"), ({"score_difference": 1e-3}, "23 of 24")],
)
def test_another_function_is_refused(change, message):
    figures = {
        "prompts": 24,
        "beam_width": 20,
        "logit_difference": 1e-5,
        "same_beams": 23,
        "score_difference": 1e-6,
    }
    SameFunction(**figures).require()
    with pytest.raises(WideningError, match=message):
        SameFunction(**{**figures, **change}).require()


def test_the_bundle_says_what_it_is(small, wide):
    load_bundle(wide.path)  # every digest
    report = json.loads((wide.path / "report.json").read_text())
    widened = report["widened"]
    assert widened["label"].startswith("target = toy shape, function of a Llama of 0.0 M")
    assert widened["of"]["model"] == small.manifest.fingerprints.model
    assert widened["fit"]["copies"] == 2
    assert widened["fit"]["head_factor"] == 4
    assert widened["shape"]["hidden"] == 64
    assert (widened["gate"], widened["seed"], widened["stored_as"]) == ("tiny", 5, "float32")
    assert list(widened["drafters_left_out"]) == ["strange"]
    assert report["drafters"] == {"strange": {"a": 1}}
    assert wide.manifest.drafters == ("default", "head", "cooccurrence")
    assert wide.manifest.fingerprints.model != small.manifest.fingerprints.model
    assert wide.manifest.fingerprints.catalog == small.manifest.fingerprints.catalog


def test_the_head_proposes_the_same(small, wide):
    models = [
        DraftModels.load(bundle, threads=1, dtype="fp32", max_rows=64) for bundle in (small, wide)
    ]
    for prompt in prompts(small):
        trees = []
        for model in models:
            with closing(BeamSession(model.target, 6)) as session:
                beams = session.open(prompt).beams
                assert model.head is not None
                trees.append(model.head.propose(session.root_hidden, beams, 3, 12, 6))
        assert len(trees[0])
        assert np.array_equal(trees[0].parents, trees[1].parents)
        assert np.array_equal(trees[0].tokens, trees[1].tokens)
        assert np.abs(trees[0].logprobs - trees[1].logprobs).max() < 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("tied", [False, True])
def test_a_block_carries_wide_states_to_wide_states(tmp_path, tied):
    small_shape, large = ModelShape(12, 1, 2, 2, 8, 8), ModelShape(40, 1, 2, 2, 8, 8)
    plan = WideningPlan.draw(small_shape, large, seed=2)
    assert (plan.fit.copies, plan.fit.unused) == (3, 4)
    for name in ("small", "wide"):
        (tmp_path / name).mkdir()
    blocks = random_head(tmp_path / "small", 12, 50, "small")
    widen_root_head(tmp_path / "small", tmp_path / "wide", plan, tied=tied, target="wide")
    config, wide_blocks = load_root_head(tmp_path / "wide")
    assert (config.hidden, config.target) == (40, "wide")

    def carried(values, share=1.0):
        used = plan.residual.used
        wide = torch.zeros(len(values), 40)
        signs = torch.from_numpy(plan.residual.sign[used]).float()
        wide[:, used] = values[:, plan.residual.source[used]] * signs * share
        return wide

    state, code = torch.randn(9, 12), 0.1 * torch.randn(9, 12)
    share = 1 / 3 if tied else 1.0
    wanted = carried(blocks.step(1, state, code), share)
    found = wide_blocks.step(1, carried(state, share), carried(code))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_control_compares_the_two_models(small):
    result = timing_control(
        plan_widening(small, SPEC), "fp32", rows=(1, 5), prompt_tokens=9, repeats=2
    )
    assert [cell["pass"] for cell in result["cells"]] == ["prompt", "1 rows", "5 rows"]
    assert all(cell["ratio"] > 0 for cell in result["cells"])


def test_the_command_knows_every_shape():
    assert set(SHAPE_NAMES) == set(SHAPES)


def test_the_command_checks_and_writes(small, tmp_path, capsys):
    out = tmp_path / "wide.bundle"
    arguments = ["bench", "widen", str(small.path), "--shape", "toy", "--out", str(out)]
    assert run([*arguments, "--prompts", "3", "--dtype", "bf16", "--json"]) == exit_codes.OK
    said = json.loads(capsys.readouterr().out)
    assert said["fp32_check"]["same_beams"] == 3
    assert load_bundle(out).manifest.name == "tiny-toy"
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    arguments[-1] = str(tmp_path / "full")
    assert run(arguments) == exit_codes.BAD_INPUT
    assert "not a bundle" in capsys.readouterr().err
