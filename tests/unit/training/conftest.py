from pathlib import Path

import pytest

from specbeam.training.data.dataset import Dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize

INDEX = {
    "0": ["<a_1>", "<b_3>", "<c_0>"],
    "1": ["<a_0>", "<b_2>", "<c_1>"],
    "2": ["<a_0>", "<b_2>", "<c_1>"],
    "3": ["<a_2>", "<b_0>", "<c_4>"],
}


@pytest.fixture
def atspeed_dir(tmp_path: Path) -> Path:
    """A tiny folder in the AtSpeed layout: 3 users, 4 items, items 2 and 3 collide."""
    import json

    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / "toys.LCRec.json").write_text(json.dumps(INDEX))
    (folder / "sequential_train.txt").write_text("1 1 2\n2 4 1 2\n3 2 4\n")
    (folder / "sequential_valid.txt").write_text("1 3\n2\n3 1\n")
    (folder / "sequential_test.txt").write_text("1 4\n2 3\n3\n")
    return folder


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    return synthesize(SyntheticConfig(num_items=160, num_users=60, mean_length=8.0, seed=3))
