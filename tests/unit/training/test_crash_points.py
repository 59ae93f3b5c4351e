"""Killed at any file operation and resumed, training gives the models of an uninterrupted run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# All places take some minutes (`python -m tests.unit.training.crash_points FOLDER 0 1`).
SHARDS = 18


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_run_resumes_to_the_same_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.training.crash_points", str(tmp_path), "4"]
    done = subprocess.run(
        [*command, str(SHARDS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["models"] == 2
    assert result["places"] > 100
    assert len(result["same"]) >= 12
    assert all(result["same"].values()), result
