import json
from pathlib import Path

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import run


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "demo.dataset"
    assert run(["data", "synthesize", str(path), "--items", "150", "--users", "25"]) == 0
    return path


def test_train_then_evaluate(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "demo.bundle"
    steps = ["--target-steps", "3", "--draft-steps", "3", "--threads", "1"]
    arguments = ["train", str(dataset_dir), str(bundle), "--preset", "tiny", *steps, "--json"]
    assert run(arguments) == exit_codes.OK
    captured = capsys.readouterr()
    assert json.loads(captured.out)["training"]["draft"]["steps"] == 3
    assert "target step 3" in captured.err
    assert run(["evaluate", str(bundle), str(dataset_dir), "--users", "5"]) == exit_codes.OK
    table = capsys.readouterr().out
    assert "co-occurrence" in table
    assert "ndcg@10" in table


def test_an_unknown_preset_is_bad_input(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(dataset_dir), str(tmp_path / "b"), "--preset", "huge"]
    assert run(arguments) == exit_codes.BAD_INPUT
    assert "there are base, small, tiny" in capsys.readouterr().err


def test_evaluating_with_another_dataset_is_refused(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, other = tmp_path / "demo.bundle", tmp_path / "other.dataset"
    steps = ["--target-steps", "1", "--draft-steps", "1", "--threads", "1"]
    run(["train", str(dataset_dir), str(bundle), "--preset", "tiny", *steps])
    run(["data", "synthesize", str(other), "--items", "140", "--users", "5"])
    capsys.readouterr()
    assert run(["evaluate", str(bundle), str(other)]) == exit_codes.BAD_INPUT
    assert "different items" in capsys.readouterr().err
