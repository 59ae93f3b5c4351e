import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from specbeam.bundle import Bundle, PromptTemplate, load_bundle
from specbeam.training.alignment import run as run_module
from specbeam.training.alignment.config import LOSSES, make_config
from specbeam.training.alignment.context import TeacherSettings
from specbeam.training.alignment.run import AlignmentRun, align_bundle
from specbeam.training.alignment.teacher_shards import TeacherDataError
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.loop import LoopSetup, StopRequested, TrainingLoop
from specbeam.training.presets import ModelShape, PhaseConfig, Preset
from specbeam.training.progress import SilentReporter
from tests.unit.training.alignment.models import DRAFT, make_bundle

PHASE = PhaseConfig(
    max_epochs=1000, batch_tokens=300, substitute=0.3, warmup_steps=2, validation_users=8
)
PRESET = Preset("test", ModelShape(32, 2, 2, 1, 16, 64), DRAFT, PHASE, PHASE)
TEACHER = TeacherSettings(prompts=20, width=6, shard_prompts=8)


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "bf16_is_fast", lambda device: False)


def make_run(dataset_dir: Path, bundle: Bundle, out: Path, loss: str, **given: Any) -> AlignmentRun:
    settings = {name: given.pop(name) for name in ("alpha", "on_policy") if name in given}
    run = AlignmentRun(
        dataset_dir,
        out,
        bundle.path,
        make_config(loss, **settings),
        PRESET,
        steps=4,
        teacher=TEACHER,
        threads=1,
    )
    return dataclasses.replace(run, **given)


def weights(directory: Path, drafter: str = "default") -> dict[str, torch.Tensor]:
    return load_file(directory / "drafters" / drafter / "model.safetensors")


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_gives_a_bundle_with_another_draft(
    tmp_path: Path, dataset_dir: Path, vocabulary_bundle: Bundle, loss: str
) -> None:
    run = make_run(dataset_dir, vocabulary_bundle, tmp_path / "b", loss)
    entry = align_bundle(run, SilentReporter())
    made = load_bundle(tmp_path / "b")
    old = vocabulary_bundle.manifest
    assert made.manifest.fingerprints == old.fingerprints
    assert made.manifest.drafters == ("default",)
    assert (made.manifest.name, made.manifest.default_beam_width) == ("small", 7)
    assert (made.manifest.score_kind, made.manifest.levels) == ("VOCAB", old.levels)
    assert not equal(weights(made.path), weights(vocabulary_bundle.path))
    report = json.loads((made.path / "report.json").read_text())
    assert report == {"training": {"steps": 3}, "alignment": entry}
    assert entry["training"]["steps"] == 4
    assert 0.0 <= entry["training"]["before"]["coverage"] <= 1.0
    assert set(entry["training"]["before"]) <= set(entry["training"]["validation"])
    assert (entry["teacher_data"] is not None) == run.config.needs_beams
    if run.config.needs_beams:
        assert entry["teacher_data"]["prompts"] == 24
    assert (made.path / "alignment.svg").is_file()
    assert not run.work_dir.exists()


def test_a_drafter_is_added_beside_the_old_one(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle
) -> None:
    run = make_run(dataset_dir, bundle, tmp_path / "b", "row-kl", drafter="other", start="scratch")
    entry = align_bundle(run, SilentReporter())
    assert load_bundle(tmp_path / "b").manifest.drafters == ("default", "other")
    assert equal(weights(tmp_path / "b"), weights(bundle.path))
    assert (entry["start"], entry["drafter"]) == ("scratch", "other")
    again = make_run(dataset_dir, load_bundle(tmp_path / "b"), tmp_path / "c", "ce", start="other")
    align_bundle(again, SilentReporter())
    assert equal(weights(tmp_path / "c", "other"), weights(tmp_path / "b", "other"))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted(
        path.name for path in (tmp_path / "b").iterdir()
    )


def test_a_bundle_without_drafters_gets_one(
    tmp_path: Path, dataset_dir: Path, small_dataset: Dataset
) -> None:
    bundle = make_bundle(tmp_path, small_dataset, drafter=False)
    entry = align_bundle(
        make_run(dataset_dir, bundle, tmp_path / "b", "atspeed-s"), SilentReporter()
    )
    assert entry["start"] == "scratch"
    assert load_bundle(tmp_path / "b").manifest.drafters == ("default",)


def test_a_bundle_with_more_than_codes_in_its_prompts_is_aligned_by_beams_alone(
    tmp_path: Path, dataset_dir: Path, small_dataset: Dataset
) -> None:
    template = PromptTemplate.of_codes((1,), (2,))
    bundle = make_bundle(tmp_path, small_dataset, template=template)
    run = make_run(dataset_dir, bundle, tmp_path / "b", "atspeed-s", alpha=1.0)
    entry = align_bundle(run, SilentReporter())
    assert entry["run"]["source"]["substitute"] == 0.0
    assert load_bundle(tmp_path / "b").template == template
    assert not equal(weights(tmp_path / "b"), weights(bundle.path))


def test_teacher_data_serve_several_losses_and_no_other_target(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle, small_dataset: Dataset
) -> None:
    shared = {"teacher_dir": tmp_path / "shared"}
    first = align_bundle(
        make_run(dataset_dir, bundle, tmp_path / "a", "atspeed-s", **shared), SilentReporter()
    )
    assert first["teacher_data"]["prompts_made"] == 24
    second = align_bundle(
        make_run(dataset_dir, bundle, tmp_path / "b", "beam-kl", **shared), SilentReporter()
    )
    assert second["teacher_data"]["prompts_made"] == 0
    other = make_bundle(tmp_path, small_dataset, seed=9)
    with pytest.raises(TeacherDataError, match="another target"):
        align_bundle(
            make_run(dataset_dir, other, tmp_path / "c", "beam-kl", **shared), SilentReporter()
        )


class StopAfter:
    """Says stop once, after a number of questions."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize(
    ("loss", "given"), [("atspeed-s", {"on_policy": 0.5}), ("distillation", {})]
)
def test_a_stopped_run_resumes_to_the_same_weights(
    tmp_path: Path,
    dataset_dir: Path,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    given: dict[str, Any],
) -> None:
    whole = make_run(dataset_dir, bundle, tmp_path / "whole", loss, **given)
    align_bundle(whole, SilentReporter())
    run = make_run(dataset_dir, bundle, tmp_path / "cut", loss, **given)
    original = TrainingLoop.__init__

    def patched(self: Any, setup: LoopSetup[Any], *args: Any) -> None:
        original(self, dataclasses.replace(setup, should_stop=StopAfter(3)), *args)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "__init__", patched)
        with pytest.raises(StopRequested):
            align_bundle(run, SilentReporter())
    assert not (tmp_path / "cut").exists()
    with pytest.raises(TrainingError, match="--resume"):
        align_bundle(run, SilentReporter())
    with pytest.raises(CheckpointError, match="another loss"):
        align_bundle(
            make_run(dataset_dir, bundle, tmp_path / "cut", "word-kd", resume=True),
            SilentReporter(),
        )
    align_bundle(dataclasses.replace(run, resume=True), SilentReporter())
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_alpha_reaches_the_loss(tmp_path: Path, dataset_dir: Path, bundle: Bundle) -> None:
    found = {}
    for loss, alpha in (("row-kl", 0.0), ("row-kl", 0.3), ("row-kl", 1.0), ("distillation", None)):
        run = make_run(dataset_dir, bundle, tmp_path / f"{loss}-{alpha}", loss, alpha=alpha)
        align_bundle(dataclasses.replace(run, steps=1), SilentReporter())
        report = json.loads((run.bundle_dir / "report.json").read_text())
        found[loss, alpha] = report["alignment"]["training"]["train_loss"]
    mixed = 0.7 * found["row-kl", 0.0] + 0.3 * found["row-kl", 1.0]
    assert found["row-kl", 0.3] == pytest.approx(mixed, abs=5e-4)
    assert abs(found["row-kl", 0.0] - found["row-kl", 1.0]) > 0.01
    assert all(value > 0.0 for value in found.values())


def test_training_on_beams_raises_coverage(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle
) -> None:
    run = make_run(dataset_dir, bundle, tmp_path / "b", "row-kl", alpha=1.0, start="scratch")
    longer = dataclasses.replace(run, steps=150, teacher=TeacherSettings(96, 12, 32))
    training = align_bundle(longer, SilentReporter())["training"]
    assert training["validation"]["node_share"] > training["before"]["node_share"] + 0.1


def test_what_makes_no_sense_is_refused_before_any_work(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle
) -> None:
    in_place = make_run(dataset_dir, bundle, bundle.path, "row-kl")
    named = make_run(dataset_dir, bundle, tmp_path / "b", "row-kl", drafter="a/b")
    lost = make_run(dataset_dir, bundle, tmp_path / "b", "row-kl", start="nobody")
    none = make_run(dataset_dir, bundle, tmp_path / "b", "row-kl", teacher=TeacherSettings(0, 6, 8))
    cases = ((in_place, "take the place"), (named, "name of a"), (lost, "nobody"), (none, "positi"))
    for run, message in cases:
        with pytest.raises(TrainingError, match=message):
            align_bundle(run, SilentReporter())
    assert not (tmp_path / "b.work").exists()
