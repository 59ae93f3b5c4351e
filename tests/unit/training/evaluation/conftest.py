import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbeam.bundle import Bundle, BundleParts, PromptTemplate, load_bundle, write_bundle
from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> Bundle:
    """A bundle with a random target over the items of the small dataset."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), small_dataset)


def make_bundle(folder: Path, dataset: Dataset) -> Bundle:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=dataset.vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "target")
    trie = ItemTrie.build(dataset.items.paths, dataset.items.item_ids)
    parts = BundleParts(
        "random",
        trie,
        PromptTemplate.of_codes((1,)),
        dataset.vocab_size,
        folder / "target",
        report={"training": {"steps": 3}},
    )
    return write_bundle(folder / "random.bundle", parts)


@pytest.fixture
def bundle_copy(tmp_path: Path, bundle: Bundle) -> Bundle:
    """A copy of the bundle that may be changed."""
    return load_bundle(shutil.copytree(bundle.path, tmp_path / "random.bundle"))
