"""Killed at any file operation and resumed, an alignment gives an uninterrupted run's draft."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# All places take some minutes (`python -m tests.unit.training.alignment.crash_points DIR 0 1`).
SHARDS = 16


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_alignment_resumes_to_the_same_draft(tmp_path: Path) -> None:
    module = "tests.unit.training.alignment.crash_points"
    done = subprocess.run(
        [sys.executable, "-m", module, str(tmp_path), "4", str(SHARDS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["models"] == 2
    assert result["places"] > 50
    assert len(result["same"]) >= 5
    assert all(result["same"].values()), result
