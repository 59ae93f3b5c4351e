import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from specbeam.bundle import BundleError, load_bundle
from specbeam.training import pipeline
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import write_dataset
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.evaluation.evaluate import evaluate_bundle
from specbeam.training.loop import LoopSetup, StopRequested, TrainingLoop
from specbeam.training.pipeline import TrainingRun, train_bundle
from specbeam.training.presets import PRESETS, ModelShape, PhaseConfig, Preset, get_preset
from specbeam.training.progress import SilentReporter
from specbeam.training.schedule import Plan, learning_rate, make_plan
from specbeam.training.target_phase import TargetObjective

PHASE = PhaseConfig(
    max_epochs=1000,
    max_steps=8,
    batch_tokens=400,
    dropout=0.1,
    average_decay=0.9,
    num_validations=2,
    validation_users=10,
)
PRESET = Preset(
    name="test",
    target=ModelShape(32, 2, 2, 1, 16, 64),
    draft=ModelShape(32, 1, 2, 1, 16, 32),
    target_phase=dataclasses.replace(PHASE, label_smoothing=0.1, teacher=0.5, jitter=0.5),
    draft_phase=dataclasses.replace(PHASE, substitute=0.5),
)


class StopAfter:
    """Says stop once, after a number of questions."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "bf16_is_fast", lambda device: False)


@pytest.fixture
def dataset_dir(tmp_path: Path, small_dataset: Dataset) -> Path:
    write_dataset(small_dataset, tmp_path / "small.dataset")
    return tmp_path / "small.dataset"


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original = TrainingLoop.__init__
    stop = StopAfter(steps)

    def patched(self: TrainingLoop, setup: LoopSetup, *args: object) -> None:
        original(self, dataclasses.replace(setup, should_stop=stop), *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingLoop, "__init__", patched)


def test_train_writes_a_bundle_that_evaluates(
    tmp_path: Path, dataset_dir: Path, small_dataset: Dataset
) -> None:
    run = TrainingRun(dataset_dir, tmp_path / "small.bundle", PRESET, threads=1)
    report = train_bundle(run, SilentReporter())
    bundle = load_bundle(tmp_path / "small.bundle")
    assert not run.work_dir.exists()
    assert bundle.manifest.drafters == ("default",)
    assert report["training"]["target"]["steps"] == 8
    assert report["training"]["draft"]["validation"]["coverage"] >= 0.0
    assert json.loads((bundle.path / "report.json").read_text()) == report
    result = evaluate_bundle(bundle, small_dataset, num_users=7, beam_width=10)
    assert result["users"] == 7
    assert set(result["results"]) == {"target", "co-occurrence", "popularity"}
    assert 0.0 <= result["results"]["target"]["all"]["recall@10"]["mean"] <= 1.0


@pytest.mark.parametrize("steps", [5, 11])
def test_a_stopped_run_resumes_to_the_same_weights(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = TrainingRun(dataset_dir, tmp_path / "whole.bundle", PRESET, threads=1)
    train_bundle(whole, SilentReporter())
    run = TrainingRun(dataset_dir, tmp_path / "cut.bundle", PRESET, threads=1)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(StopRequested):
            train_bundle(run, SilentReporter())
    assert not (tmp_path / "cut.bundle").exists()
    train_bundle(dataclasses.replace(run, resume=True), SilentReporter())
    for name in ("target", "drafters/default"):
        one = load_file(tmp_path / "whole.bundle" / name / "model.safetensors")
        two = load_file(tmp_path / "cut.bundle" / name / "model.safetensors")
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_unfinished_run_is_neither_overwritten_nor_mixed_up(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(dataset_dir, tmp_path / "b", PRESET, threads=1)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train_bundle(dataclasses.replace(run, resume=True), SilentReporter())
    stop_after(monkeypatch, 1)
    with pytest.raises(StopRequested):
        train_bundle(run, SilentReporter())
    with pytest.raises(TrainingError, match="--resume"):
        train_bundle(run, SilentReporter())
    with pytest.raises(CheckpointError, match="another seed"):
        train_bundle(dataclasses.replace(run, resume=True, seed=4), SilentReporter())


def test_a_damaged_checkpoint_is_reported(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(dataset_dir, tmp_path / "b", PRESET, threads=1)
    stop_after(monkeypatch, 1)
    with pytest.raises(StopRequested):
        train_bundle(run, SilentReporter())
    (run.work_dir / "target.checkpoint" / "state.json").write_text('{"steps": 3}')
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train_bundle(dataclasses.replace(run, resume=True), SilentReporter())


def test_minutes_become_steps_once(tmp_path: Path, dataset_dir: Path) -> None:
    timed = dataclasses.replace(PHASE, max_steps=None, minutes=0.01)
    preset = dataclasses.replace(PRESET, target_phase=timed)
    run = TrainingRun(dataset_dir, tmp_path / "b", preset, threads=1, keep_work=True)
    report = train_bundle(run, SilentReporter())["training"]["target"]
    plan = Plan(**json.loads((run.work_dir / "target.plan.json").read_text()))
    assert 1 <= plan.steps == report["steps"] < 1000
    assert report["minutes"] < 0.1


def test_a_plan_keeps_to_the_tightest_limit() -> None:
    config = dataclasses.replace(PHASE, max_epochs=2.5, max_steps=None, minutes=1.0)
    assert make_plan(config, 40).steps == 100
    assert make_plan(config, 40, seconds_per_step=1.0).steps == 52
    assert make_plan(dataclasses.replace(config, max_steps=7), 40, 1.0).steps == 7
    assert make_plan(config, 40, seconds_per_step=1e9).steps == 1
    small_data = dataclasses.replace(config, min_steps=300)
    assert make_plan(small_data, 40).steps == 300
    assert make_plan(small_data, 40, seconds_per_step=1.0).steps == 52


def test_the_learning_rate_warms_up_peaks_and_falls() -> None:
    plan = Plan(steps=110, warmup_steps=10, validate_every=10)
    assert learning_rate(4, plan, 1.0) == pytest.approx(0.5)
    assert learning_rate(9, plan, 1.0) == learning_rate(10, plan, 1.0) == pytest.approx(1.0)
    assert learning_rate(60, plan, 1.0) == pytest.approx(0.51)
    assert learning_rate(110, plan, 1.0) == pytest.approx(0.02)


def test_training_ends_early_when_validation_no_longer_improves(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])

    def validate(self: TargetObjective) -> dict[str, float]:
        return {"score": next(scores)}

    monkeypatch.setattr(TargetObjective, "validate", validate)
    phase = dataclasses.replace(PHASE, max_steps=10, num_validations=10, patience=2)
    preset = dataclasses.replace(PRESET, target_phase=phase)
    run = TrainingRun(dataset_dir, tmp_path / "b", preset, threads=1)
    report = train_bundle(run, SilentReporter())["training"]["target"]
    assert (report["steps"], report["best_step"], report["stopped_early"]) == (4, 2, True)


def test_without_validation_users_the_latest_weights_are_kept(
    tmp_path: Path, small_dataset: Dataset
) -> None:
    interactions = small_dataset.interactions
    only_train = dataclasses.replace(interactions, split=np.zeros_like(interactions.split))
    write_dataset(dataclasses.replace(small_dataset, interactions=only_train), tmp_path / "d")
    phase = dataclasses.replace(PHASE, max_steps=6, num_validations=6, patience=2)
    preset = dataclasses.replace(PRESET, target_phase=phase, draft_phase=phase)
    run = TrainingRun(tmp_path / "d", tmp_path / "b", preset, threads=1)
    for report in train_bundle(run, SilentReporter())["training"].values():
        assert (report["steps"], report["best_step"], report["stopped_early"]) == (6, 6, False)


def test_files_of_no_run_are_not_taken_for_the_new_one(tmp_path: Path, dataset_dir: Path) -> None:
    run = TrainingRun(dataset_dir, tmp_path / "b", PRESET, threads=1, keep_work=True)
    train_bundle(run, SilentReporter())
    (run.work_dir / "run.json").unlink()
    with pytest.raises(TrainingError, match="files of no run"):
        train_bundle(dataclasses.replace(run, seed=7), SilentReporter())


def test_an_older_bundle_is_not_taken_for_the_run_to_be_resumed(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(dataset_dir, tmp_path / "b", PRESET, threads=1)
    first = train_bundle(run, SilentReporter())
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopRequested):
            train_bundle(run, SilentReporter())
    second = train_bundle(dataclasses.replace(run, resume=True), SilentReporter())
    assert second["run"] == first["run"]
    assert second["run_id"] != first["run_id"]


def test_something_else_in_the_way_is_noticed_before_training(
    tmp_path: Path, dataset_dir: Path
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("x")
    with pytest.raises(BundleError, match="is not a bundle"):
        train_bundle(TrainingRun(dataset_dir, tmp_path / "b", PRESET, threads=1), SilentReporter())
    assert not (tmp_path / "b.work").exists()


def test_a_loss_that_is_not_finite_is_an_error(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetObjective, "validate", lambda self: {"score": 0.0})
    phase = dataclasses.replace(PHASE, learning_rate=1e30)
    preset = dataclasses.replace(PRESET, target_phase=phase)
    with pytest.raises(TrainingError, match="lower learning rate"):
        train_bundle(TrainingRun(dataset_dir, tmp_path / "b", preset, threads=1), SilentReporter())
    assert not (tmp_path / "b").exists()


def test_presets_take_the_callers_limits() -> None:
    preset = get_preset("small", target_minutes=3.0, draft_steps=7)
    assert preset.target_phase.minutes == 3.0
    assert preset.draft_phase.max_steps == 7
    assert preset.draft_phase.minutes == PRESETS["small"].draft_phase.minutes
    with pytest.raises(TrainingError, match="there are base, small, tiny"):
        get_preset("huge")
    changed = get_preset("small", target_epochs=2.5, dropout=0.0, teacher="none")
    assert (changed.target_phase.max_epochs, changed.target_phase.dropout) == (2.5, 0.0)
    assert changed.teacher == "none"
    assert changed.target_phase.min_steps == 0 < PRESETS["small"].target_phase.min_steps
    for wrong in ({"target_minutes": 0}, {"dropout": 1.0}, {"teacher": "someone"}):
        with pytest.raises(TrainingError, match=r"positive|dropout|teacher"):
            get_preset("tiny", **wrong)  # type: ignore[arg-type]
