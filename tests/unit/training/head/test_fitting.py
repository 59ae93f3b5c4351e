"""Training a root head: what it is taught, what it gains, and that it can be stopped."""

import dataclasses
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from specbeam.bundle import Bundle, FixedSegment, PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.engine import BeamSession
from specbeam.engine.root_head import RootHead
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig
from specbeam.engine.transformers_adapter import load_causal_lm
from specbeam.training.batches import BatchMaker, Events
from specbeam.training.choices import make_tables
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.head import fitting
from specbeam.training.head.checks import check_parts
from specbeam.training.head.config import HeadConfig
from specbeam.training.head.coverage import (
    JUDGED,
    CoverageProbe,
    open_target,
    root_hidden,
    search_root,
)
from specbeam.training.head.fitting import add_to_bundle, train_head
from specbeam.training.head.objective import HeadObjective
from specbeam.training.head.teacher import HeadTeacher
from specbeam.training.loop import StopRequested
from specbeam.training.presets import PhaseConfig
from specbeam.training.progress import SilentReporter
from specbeam.training.validation import make_validation_set

CPU = torch.device("cpu")
CONFIG = HeadConfig(
    bottleneck=32,
    branches=2,
    phase=PhaseConfig(
        max_epochs=1000,
        max_steps=40,
        batch_tokens=800,
        learning_rate=5e-3,
        num_validations=2,
        validation_users=40,
    ),
)


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "bf16_is_fast", lambda device: False)


def with_phase(**changes: object) -> HeadConfig:
    phase = dataclasses.replace(CONFIG.phase, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(CONFIG, phase=phase)


def first_batch(dataset: Dataset, bundle: Bundle):
    maker = BatchMaker(
        Events.of(dataset.histories("train")),
        dataset.items.paths,
        bundle.template.window.max_items,
        batch_tokens=300,
        drop=0.5,
        jitter=0.0,
        seed=0,
    )
    return maker.epoch(0)[0]


def test_training_starts_from_the_state_that_serving_has(
    head_bundle: Bundle, head_dataset: Dataset
) -> None:
    batch, depth = first_batch(head_dataset, head_bundle), head_bundle.trie.depth
    states = HeadTeacher(head_bundle, CPU, bf16=False).read(batch).states
    model = open_target(head_bundle, CPU)
    for row, column in zip(*batch.places, strict=True):
        items = batch.item_of[batch.events[row, :column]]
        prompt = head_bundle.template.render(batch.paths[items])
        served = root_hidden(model, prompt)
        torch.testing.assert_close(states[row, column * depth], served[0], rtol=1e-4, atol=1e-4)


def test_branches_equal_sequences_of_their_own(head_bundle: Bundle, head_dataset: Dataset) -> None:
    batch, rng = first_batch(head_dataset, head_bundle), np.random.default_rng(2)
    teacher = HeadTeacher(head_bundle, CPU, bf16=False)
    drawn = rng.integers(0, len(batch.paths), (len(batch.items), 3))
    codes = torch.from_numpy(batch.paths[drawn][..., :2]).long()
    states = teacher.branch(batch, teacher.read(batch), codes)
    model = load_causal_lm(head_bundle.target_dir, torch.float32).get_decoder()
    for place, (row, column) in enumerate(zip(*batch.places, strict=True)):
        history = batch.tokens[row, : 1 + column * batch.paths.shape[1]]
        for number in range(3):
            alone = torch.cat([torch.from_numpy(history), codes[place, number]])
            with torch.no_grad():
                want = model(input_ids=alone[None]).last_hidden_state[0, -2:]
            torch.testing.assert_close(states[place, number], want, rtol=1e-4, atol=1e-4)


def objective_of(bundle: Bundle, dataset: Dataset, branches: int) -> HeadObjective:
    kind = "TRIE" if bundle.manifest.score_kind == "TRIE" else "VOCAB"
    model = open_target(bundle, CPU)
    shape = RootHeadConfig(32, dataset.vocab_size, 3, 8, "t")
    return HeadObjective(
        HeadTeacher(bundle, CPU, bf16=False),
        make_tables(kind, bundle.trie, dataset),
        ItemSampler(bundle.trie, dataset),
        CoverageProbe(RootHead(shape, shape.make_blocks(), model), model, (), Devices()),
        Devices(),
        levels=3,
        branches=branches,
    )


@pytest.mark.parametrize("branches", [0, 2])
def test_the_loss_equals_a_loop_over_paths(
    head_bundle: Bundle, head_dataset: Dataset, branches: int
) -> None:
    """Each path by itself: KL of the served laws, level by level, the second one twice."""
    objective = objective_of(head_bundle, head_dataset, branches)
    batch, trie = first_batch(head_dataset, head_bundle), head_bundle.trie
    torch.manual_seed(3)
    blocks = StateBlocks(32, 8, 2)
    torch.nn.init.normal_(blocks.blocks[0].outer.weight)
    torch.nn.init.normal_(blocks.blocks[1].outer.weight)
    torch.manual_seed(4)
    with torch.no_grad():
        got = float(objective.loss(blocks, batch))
    torch.manual_seed(4)
    _, items, _ = objective._taught(batch)
    assert items.shape == (len(batch.items), 1 + branches)
    np.testing.assert_array_equal(items[:, 0], batch.items)
    model = open_target(head_bundle, CPU)
    index = trie.index_of(head_dataset.items.item_ids)
    total = 0.0
    for place, (row, column) in enumerate(zip(*batch.places, strict=True)):
        prompt = batch.tokens[row, : 1 + column * trie.depth]
        root = root_hidden(model, prompt)
        for item in items[place]:
            path = trie.paths(index[[item]])[0]
            state, sequence, node = root, prompt, np.zeros(1, np.int64)
            for level in (1, 2):
                code = path[level - 1 : level]
                state = blocks.step(level, state, model.runner.embed(code)).detach()
                sequence = np.concatenate([sequence, code])
                node = trie.child(level - 1, node, code)
                first, last = (int(trie.levels[level].first_child_of(node[0] + n)) for n in (0, 1))
                tokens = torch.arange(head_dataset.vocab_size)
                if head_bundle.manifest.score_kind == "TRIE":
                    tokens = torch.from_numpy(
                        trie.levels[level + 1].tokens_of(np.arange(first, last))
                    )
                own, law = (
                    torch.log_softmax(model.runner.logits(hidden)[0, tokens.long()], dim=-1)
                    for hidden in (state, root_hidden(model, sequence))
                )
                total += (2.0 if level == 1 else 1.0) * float((law.exp() * (law - own)).sum())
    assert got == pytest.approx(total / items.size, rel=1e-3)


def test_branches_lie_below_different_likely_codes(
    head_bundle: Bundle, head_dataset: Dataset
) -> None:
    trie = head_bundle.trie
    sampler = ItemSampler(trie, head_dataset)
    logits = torch.full((400, head_dataset.vocab_size), -9.0)
    likely = torch.from_numpy(trie.levels[1].tokens_of(np.arange(3))).long()
    logits[:, likely] = torch.tensor([5.0, 4.0, 4.0])
    first = head_dataset.items.paths[sampler.sample(logits, 2)][..., 0]
    assert (first[:, 0] != first[:, 1]).all()
    assert np.isin(first, likely.numpy()).all()
    share = (first[:, 0] == int(likely[0])).mean()
    assert share == pytest.approx(np.e / (np.e + 2), abs=0.08)


def test_training_improves_coverage(
    tmp_path: Path, head_bundle: Bundle, head_dataset: Dataset
) -> None:
    config = with_phase(max_steps=120)
    report = train_head(head_bundle, head_dataset, tmp_path / "head", config)
    model = open_target(head_bundle, CPU)
    users = make_validation_set(
        head_dataset, head_bundle.trie, head_bundle.template, 40, CONFIG.seed
    )
    target = head_bundle.manifest.fingerprints.model
    head = RootHead.load(tmp_path / "head", model, target)
    trained = CoverageProbe(head, model, users.prompts, Devices()).measure()
    untrained = RootHead(head.config, head.config.make_blocks(), model)
    before = CoverageProbe(untrained, model, users.prompts, Devices()).measure()
    assert 1 - trained["node_share"] < (1 - before["node_share"]) / 2
    assert trained[JUDGED.name] > before[JUDGED.name]
    assert trained == pytest.approx({key: report["validation"][key] for key in trained})
    assert report["parameters"] == 2 * (64 + 64 * 32 + 32 + 32 * 32)
    assert head.config == RootHeadConfig(32, head_dataset.vocab_size, 3, 32, target)
    assert json.loads((tmp_path / "head" / "report.json").read_text())["steps"] == 120
    assert not (tmp_path / "head.work").exists()


def test_a_trained_head_is_ready_for_a_bundle(
    tmp_path: Path, head_bundle: Bundle, head_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "DEFAULT_CONFIG", with_phase(max_steps=3))
    figures = add_to_bundle(head_bundle, head_dataset, tmp_path / "head", SilentReporter())
    names = {path.name for path in (tmp_path / "head").iterdir()}
    assert names == {"drafter.json", "head.safetensors", "report.json"}
    assert figures["steps"] == 3
    assert 0.0 <= figures["coverage_10_40"] <= figures["node_share"] <= 1.0
    assert all(isinstance(value, int | float) for value in figures.values())


def test_all_of_the_second_level_covers_all(head_bundle: Bundle, head_dataset: Dataset) -> None:
    model = open_target(head_bundle, CPU)
    trie = head_bundle.trie
    users = make_validation_set(head_dataset, trie, head_bundle.template, 5, 0)
    shape = RootHeadConfig(32, head_dataset.vocab_size, 3, 4, "t")
    probe = CoverageProbe(
        RootHead(shape, shape.make_blocks(), model), model, users.prompts, Devices()
    )
    everything = dataclasses.replace(JUDGED, nodes=trie.levels[2].num_nodes)
    for prompt in users.prompts:
        case = search_root(model, prompt, [JUDGED.width])
        assert probe.covered(case, everything).all()
        few = probe.covered(case, JUDGED)
        assert few.shape == (JUDGED.width,) and few.any()


def test_references_are_the_exact_beams(head_bundle: Bundle, head_dataset: Dataset) -> None:
    model = open_target(head_bundle, CPU)
    users = make_validation_set(head_dataset, head_bundle.trie, head_bundle.template, 6, 1)
    for prompt in users.prompts:
        case = search_root(model, prompt, [3, 20])
        for width in (3, 20):
            with closing(BeamSession(model, width)) as session:
                session.open(prompt)
                while not session.finished:
                    beams = session.beams
                    known = {1: case.first, 2: case.second}.get(beams.level)
                    if known is not None:
                        np.testing.assert_array_equal(beams.nodes, known[width].nodes)
                        np.testing.assert_allclose(beams.scores, known[width].scores, atol=1e-4)
                    session.plain_step()


@pytest.mark.parametrize("steps", [3, 25])
def test_a_stopped_run_resumes_to_the_same_weights(
    tmp_path: Path, head_bundle: Bundle, head_dataset: Dataset, steps: int
) -> None:
    train_head(head_bundle, head_dataset, tmp_path / "whole", CONFIG)
    left = iter([False] * steps + [True])
    with pytest.raises(StopRequested):
        train_head(
            head_bundle, head_dataset, tmp_path / "cut", CONFIG, should_stop=lambda: next(left)
        )
    assert not (tmp_path / "cut").exists()
    train_head(head_bundle, head_dataset, tmp_path / "cut", CONFIG, resume=True)
    one, two = (load_file(tmp_path / n / "head.safetensors") for n in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_unfinished_run_is_neither_overwritten_nor_mixed_up(
    tmp_path: Path, head_bundle: Bundle, head_dataset: Dataset
) -> None:
    def train(config: HeadConfig = CONFIG, *, resume: bool = False) -> None:
        train_head(
            head_bundle,
            head_dataset,
            tmp_path / "h",
            config,
            resume=resume,
            should_stop=lambda: True,
        )

    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(resume=True)
    with pytest.raises(StopRequested):
        train()
    with pytest.raises(TrainingError, match="unfinished run"):
        train()
    with pytest.raises(CheckpointError, match="another config"):
        train(dataclasses.replace(CONFIG, bottleneck=4), resume=True)
    (tmp_path / "h").mkdir()
    with pytest.raises(TrainingError, match="already exists"):
        train(resume=True)


def test_training_ends_early_when_coverage_no_longer_improves(
    tmp_path: Path,
    head_bundle: Bundle,
    head_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(CoverageProbe, "measure", lambda self: {"score": next(scores)})
    config = with_phase(max_steps=10, num_validations=10, patience=2)
    report = train_head(head_bundle, head_dataset, tmp_path / "h", config)
    assert (report["steps"], report["best_step"], report["stopped_early"]) == (4, 2, True)


def test_without_validation_users_the_latest_weights_are_kept(
    tmp_path: Path, head_bundle: Bundle, head_dataset: Dataset
) -> None:
    interactions = head_dataset.interactions
    only_train = dataclasses.replace(interactions, split=np.zeros_like(interactions.split))
    dataset = dataclasses.replace(head_dataset, interactions=only_train)
    report = train_head(head_bundle, dataset, tmp_path / "h", with_phase(max_steps=4))
    assert report["best_step"] == 4


def test_what_cannot_be_trained_is_refused(head_bundle: Bundle, head_dataset: Dataset) -> None:
    items, trie = head_dataset.items, head_bundle.trie

    def other(paths: np.ndarray) -> Bundle:
        return dataclasses.replace(head_bundle, trie=ItemTrie.build(paths, items.item_ids))

    check_parts(head_bundle, head_dataset)
    fewer = ItemTrie.build(items.paths[:-1], items.item_ids[:-1])
    with pytest.raises(TrainingError, match="different items"):
        check_parts(dataclasses.replace(head_bundle, trie=fewer), head_dataset)
    with pytest.raises(TrainingError, match="different semantic IDs"):
        check_parts(other(np.roll(items.paths, 1, axis=0)), head_dataset)
    with pytest.raises(TrainingError, match="2 codes"):
        check_parts(other(items.paths[:, :2]), head_dataset)
    ragged = np.where(np.arange(trie.depth) < 3, items.paths, -1)
    ragged[0] = items.paths[0]
    ragged[0, 2] = items.paths[:, 2].max() + 1
    with pytest.raises(TrainingError, match="equal length"):
        check_parts(other(ragged), head_dataset)
    cued = dataclasses.replace(head_bundle.template, after=(FixedSegment((2,)),))
    longer = PromptTemplate.of_codes((1, 2))
    for template in (cued, longer):
        with pytest.raises(TrainingError, match="hold more than"):
            check_parts(dataclasses.replace(head_bundle, template=template), head_dataset)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"bottleneck": 0}, {"max_levels": 1}, {"branches": -1}):
        with pytest.raises(TrainingError, match="bottleneck"):
            HeadConfig(**wrong)  # type: ignore[arg-type]
