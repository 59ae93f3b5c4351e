from pathlib import Path

import pytest

from specbeam.packing.vocabulary import Vocabulary
from tests.checkpoints import code_tokens, llama_tokenizer, qwen_tokenizer

CODES = code_tokens((8, 8, 8))


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    directory = tmp_path_factory.mktemp("qwen")
    qwen_tokenizer(CODES).save_pretrained(directory)
    return Vocabulary.load(directory)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    directory: Path = tmp_path_factory.mktemp("llama")
    llama_tokenizer(CODES).save_pretrained(directory)
    return Vocabulary.load(directory)
