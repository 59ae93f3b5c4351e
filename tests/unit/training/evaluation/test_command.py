import json
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle import Bundle, load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.evaluate import ALL_BASELINES, QUICK_BASELINES
from specbeam.cli.main import run
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import write_dataset
from specbeam.training.evaluation.fitted import BASELINES


@pytest.fixture
def dataset_dir(tmp_path: Path, small_dataset: Dataset) -> str:
    write_dataset(small_dataset, tmp_path / "small.dataset")
    return str(tmp_path / "small.dataset")


def test_evaluate_prints_tables_and_writes_what_was_asked_for(
    tmp_path: Path, dataset_dir: str, bundle_copy: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    files = ["--out", "e.json", "--plot", "e.svg", "--save-users", "e.npz"]
    arguments = [str(out / word) if word.startswith("e.") else word for word in files]
    code = run(["evaluate", str(bundle_copy.path), dataset_dir, *arguments, "--write-report"])
    assert code == exit_codes.OK
    captured = capsys.readouterr()
    table = captured.out
    assert all(name in table for name in ("target", "popularity", "co-occurrence", "item-knn"))
    assert "sasrec" not in table
    assert all(name in table for name in ("recall@10", "target minus", "only items", "coverage@10"))
    assert "…" not in table
    report = json.loads((out / "e.json").read_text())
    kept = json.loads((load_bundle(bundle_copy.path).path / "report.json").read_text())
    assert kept["evaluation"] == report
    assert "target" in (out / "e.svg").read_text()
    with np.load(out / "e.npz") as saved:
        assert len(saved["user_id"]) == report["users"]


def test_evaluate_prints_json_of_the_valid_split_without_baselines(
    dataset_dir: str, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--split", "valid", "--baselines", "none", "--users", "4", "--json"]
    assert run(["evaluate", str(bundle.path), dataset_dir, *options]) == exit_codes.OK
    report = json.loads(capsys.readouterr().out)
    assert (report["split"], report["users"], list(report["results"])) == ("valid", 4, ["target"])
    assert report["differences"] == {}


def test_the_command_knows_every_baseline() -> None:
    assert set(ALL_BASELINES) == set(BASELINES)
    assert set(QUICK_BASELINES.split(",")) == set(BASELINES) - {"sasrec"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--baselines", "oracle"], "there are popularity, co-occurrence, item-knn, sasrec"),
        (["--plot", "e.html"], ".png or .svg"),
    ],
)
def test_wrong_options_are_bad_input(
    dataset_dir: str,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run(["evaluate", str(bundle.path), dataset_dir, *options]) == exit_codes.BAD_INPUT
    assert message in capsys.readouterr().err
