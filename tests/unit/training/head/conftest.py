"""A synthetic dataset and a briefly trained bundle for it, made once."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from specbeam.bundle import Bundle, load_bundle
from specbeam.training import pipeline
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import write_dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize
from specbeam.training.pipeline import TrainingRun, train_bundle
from specbeam.training.presets import ModelShape, PhaseConfig, Preset
from specbeam.training.progress import SilentReporter

_PHASE = PhaseConfig(
    max_epochs=1000,
    max_steps=60,
    batch_tokens=800,
    learning_rate=3e-3,
    num_validations=1,
    validation_users=10,
)
_PRESET = Preset(
    name="test",
    target=ModelShape(32, 2, 2, 1, 16, 64),
    draft=ModelShape(16, 1, 1, 1, 16, 16),
    target_phase=_PHASE,
    draft_phase=dataclasses.replace(_PHASE, max_steps=1),
)


@pytest.fixture(scope="session")
def head_dataset() -> Dataset:
    return synthesize(SyntheticConfig(num_items=400, num_users=150, mean_length=8.0, seed=5))


@pytest.fixture(scope="session", params=["TRIE", "VOCAB"])
def head_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, head_dataset: Dataset
) -> Iterator[Bundle]:
    """A target of 60 steps: its laws are far from flat and far from what a new head says."""
    directory: Path = tmp_path_factory.mktemp("head")
    write_dataset(head_dataset, directory / "d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "bf16_is_fast", lambda device: False)
        run = TrainingRun(
            directory / "d",
            directory / "b",
            _PRESET,
            score_kind=request.param,
            threads=torch.get_num_threads(),
        )
        train_bundle(run, SilentReporter())
    yield load_bundle(directory / "b")
