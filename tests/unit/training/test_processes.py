"""Two processes train one bundle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from specbeam.bundle import load_bundle
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import write_dataset


def launch(dataset: Path, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    train = ["train", str(dataset), str(bundle), "--preset", "tiny", "--threads", "1", "--json"]
    limits = ["--target-steps", "6", "--draft-steps", "4"]
    script = ["-m", "specbeam"]
    return subprocess.run(
        [*command, *script, *train, *limits, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_one_bundle(tmp_path: Path, small_dataset: Dataset) -> None:
    write_dataset(small_dataset, tmp_path / "d")
    done = launch(tmp_path / "d", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # printed once, by the main process
    assert report["processes"] == 2
    assert report["training"]["target"]["steps"] == 6
    assert load_bundle(tmp_path / "one").manifest.drafters == ("default",)
    again = launch(tmp_path / "d", tmp_path / "one", "--resume")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["run_id"] == report["run_id"]
    assert "was already written" in again.stderr
