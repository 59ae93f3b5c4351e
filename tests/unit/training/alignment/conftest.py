from pathlib import Path

import pytest
from torch import nn

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import write_dataset
from tests.unit.training.alignment.models import DRAFT, TARGET, make_bundle, make_model, make_trie


@pytest.fixture(scope="session")
def trie(small_dataset: Dataset) -> ItemTrie:
    return make_trie(small_dataset)


@pytest.fixture(scope="session")
def target(small_dataset: Dataset) -> nn.Module:
    return make_model(TARGET, small_dataset, seed=0)


@pytest.fixture
def draft(small_dataset: Dataset) -> nn.Module:
    return make_model(DRAFT, small_dataset, seed=100)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> Bundle:
    """Scores over children; a random target and a random drafter."""
    return make_bundle(tmp_path_factory.mktemp("trie"), small_dataset, "TRIE")


@pytest.fixture(scope="session")
def vocabulary_bundle(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> Bundle:
    """Scores over all token ids."""
    return make_bundle(tmp_path_factory.mktemp("vocab"), small_dataset, "VOCAB")


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.dataset"
    write_dataset(small_dataset, path)
    return path
