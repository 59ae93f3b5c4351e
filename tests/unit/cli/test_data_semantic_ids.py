import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from specbeam.cli import data_semantic_ids, exit_codes
from specbeam.cli.main import run
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import read_dataset, write_dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize
from specbeam.training.semantic_ids.collisions import COLLISION_POLICIES
from specbeam.training.semantic_ids.options import METHODS
from specbeam.training.semantic_ids.quantise import BALANCES


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A dataset directory without semantic IDs."""
    made = synthesize(SyntheticConfig(num_items=128, num_users=40, mean_length=6.0, seed=1))
    items = replace(made.items, paths=np.zeros((128, 0), np.int32))
    write_dataset(Dataset("shop", (), items, made.interactions), tmp_path / "shop.dataset")
    return tmp_path / "shop.dataset"


def test_choices_are_those_of_the_library() -> None:
    assert data_semantic_ids.METHODS == METHODS
    assert data_semantic_ids.BALANCES == BALANCES
    assert data_semantic_ids.POLICIES == COLLISION_POLICIES


def test_ids_are_made_in_place(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "semantic-ids", str(bare), "--dims", "16", "--json"]
    assert run(command) == exit_codes.OK
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["directory"] == str(bare)
    assert "of the squared norm is left" in output.err
    assert read_dataset(bare).has_semantic_ids
    saved = json.loads((bare / "semantic_ids.json").read_text())
    assert saved == {key: value for key, value in report.items() if key != "directory"}

    assert run(command) == exit_codes.BAD_INPUT
    assert "--overwrite-ids" in capsys.readouterr().err
    assert run([*command, "--overwrite-ids", "--method", "cooccurrence"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["options"]["method"] == "cooccurrence"


def test_out_leaves_the_source_alone(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.dataset"
    command = ["data", "semantic-ids", str(bare), "--collisions", "level", "--out", str(out)]
    assert run(command) == exit_codes.OK
    shown = capsys.readouterr().out
    assert "distinct paths" in shown
    assert "perplexity" in shown
    assert not read_dataset(bare).has_semantic_ids
    assert read_dataset(out).counts()["semantic_ids"] == 128
    assert run(command) == exit_codes.BAD_INPUT
    assert "already exists" in capsys.readouterr().err


def test_wrong_vectors_are_one_message(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "v.npz", ids=["x", "y"], vectors=np.ones((2, 3)))
    command = ["data", "semantic-ids", str(bare), "--vectors", str(tmp_path / "v.npz")]
    assert run(command) == exit_codes.BAD_INPUT
    error = capsys.readouterr().err
    assert "128 problems" in error
    assert "Traceback" not in error
    assert not read_dataset(bare).has_semantic_ids


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "semantic-ids", "--help"]) == exit_codes.OK
    shown = capsys.readouterr().out
    assert "specbeam data semantic-ids shop.dataset --method cooccurrence" in shown
    assert "--overwrite-ids" in shown
