import json
import subprocess
import sys
from pathlib import Path

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import COMMANDS, run
from specbeam.training.data.dataset_files import read_dataset


def test_synthesize_writes_a_dataset_and_prints_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "demo.dataset"
    code = run(["data", "synthesize", str(target), "--items", "200", "--users", "20", "--json"])
    assert code == exit_codes.OK
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts == read_dataset(target).counts()
    assert counts["items"] == 200


def test_bad_input_is_one_message_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    target = tmp_path / "out"
    code = run(["data", "import", "--layout", "atspeed", str(source), str(target)])
    assert code == exit_codes.BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "4 problems" in error
    assert "Traceback" not in error
    assert not target.exists()


def test_an_existing_dataset_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "synthesize", str(tmp_path), "--items", "200", "--users", "5"]
    assert run(arguments) == exit_codes.BAD_INPUT
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nothing"], ["data", "import"], ["train", "--wrong"]])
def test_wrong_usage_has_its_own_code(arguments: list[str]) -> None:
    assert run(arguments) == exit_codes.USAGE


@pytest.mark.parametrize("command", ["data", "train", "evaluate"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == exit_codes.OK
    assert "Usage: specbeam " + command in capsys.readouterr().out


def test_help_lists_all_commands_without_importing_torch() -> None:
    code = (
        "import sys; from specbeam.cli.main import run; run(['--help']); "
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert all(command in result.stdout for command in COMMANDS)
