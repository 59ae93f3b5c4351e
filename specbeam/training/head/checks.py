"""Whether a root head can be trained for a bundle with a dataset."""

import numpy as np

from specbeam.bundle import Bundle
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.vocabulary import BOS_TOKEN_ID
from specbeam.training.errors import TrainingError


def check_parts(bundle: Bundle, dataset: Dataset) -> None:
    """Check that a head can be trained for a bundle's target with a dataset.

    Raises:
        TrainingError: it cannot; the message says why.
    """
    names = f"bundle {bundle.manifest.name} and dataset {dataset.name}"
    index = bundle.trie.index_of(dataset.items.item_ids)
    if (index < 0).any() or len(index) != bundle.trie.num_items:
        raise TrainingError(f"{names} have different items")
    if bundle.trie.has_padding:
        raise TrainingError("a head is trained for items of equal length only")
    if bundle.trie.depth < 3:
        raise TrainingError(
            f"items have {bundle.trie.depth} codes, and the last one is never drafted:"
            " there is nothing for a head to do"
        )
    if not np.array_equal(bundle.trie.paths(index), dataset.items.paths):
        raise TrainingError(f"{names} have different semantic IDs")
    if bundle.template.render(dataset.items.paths[:2]).tolist() != _training_prompt(dataset):
        raise TrainingError(
            f"the prompts of bundle {bundle.manifest.name} hold more than a first token"
            f" {BOS_TOKEN_ID} and the codes of items, which is all a head is trained with"
        )


def _training_prompt(dataset: Dataset) -> list[int]:
    """Tokens of a training sequence of the first two items."""
    return [BOS_TOKEN_ID, *dataset.items.paths[:2].ravel().tolist()]
