"""Item embeddings of one dataset by the chosen method."""

from collections.abc import Callable

import numpy as np

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.cooccurrence import cooccurrence_vectors
from specbeam.training.semantic_ids.options import SemanticIdOptions
from specbeam.training.semantic_ids.text import item_documents, text_vectors
from specbeam.training.semantic_ids.vector_files import read_vectors
from specbeam.training.semantic_ids.vectors import FloatArray, normalised


def embed(dataset: Dataset, options: SemanticIdOptions, note: Callable[[str], None]) -> FloatArray:
    """Return one vector per item; only the train split of the interactions is looked at.

    Args:
        dataset: what to embed.
        options: with the method filled in.
        note: told about each step.

    Returns:
        Rows of length 1, or 0 for an item that nothing is known about. Shape (N, d).

    Raises:
        DatasetError: the dataset or the file has nothing that the method could use.
    """
    items = dataset.items
    if options.method == "vectors":
        assert options.vectors is not None
        note(f"reading vectors from {options.vectors}")
        vectors = normalised(read_vectors(options.vectors, items.item_ids))
    elif options.method == "text+cooccurrence":
        vectors = joined(
            _texts(dataset, options, note), _neighbours(dataset, options, note), options.text_weight
        )
    elif options.method == "text":
        vectors = _texts(dataset, options, note)
    else:
        vectors = _neighbours(dataset, options, note)
    if not vectors.any():
        raise DatasetError(f"dataset {dataset.name}", ["nothing is known about any item"])
    return vectors


def joined(left: FloatArray, right: FloatArray, left_weight: float) -> FloatArray:
    """Set two blocks side by side; an item that only one block knows counts on that block alone.

    Args:
        left: normalised rows. Shape (N, d).
        right: normalised rows. Shape (N, e).
        left_weight: share of the squared norm that `left` has where both are known.

    Returns:
        Normalised rows. Shape (N, d + e).
    """
    blocks = [left * np.sqrt(left_weight), right * np.sqrt(1 - left_weight)]
    return normalised(np.concatenate(blocks, axis=1).astype(np.float32))


def _texts(dataset: Dataset, options: SemanticIdOptions, note: Callable[[str], None]) -> FloatArray:
    note(f"embedding the texts of {len(dataset.items):,} items")
    return normalised(text_vectors(item_documents(dataset), options.dims, options.seed))


def _neighbours(
    dataset: Dataset, options: SemanticIdOptions, note: Callable[[str], None]
) -> FloatArray:
    note(f"embedding {len(dataset.items):,} items by their neighbours in train histories")
    histories = dataset.histories("train")
    return normalised(
        cooccurrence_vectors(histories, len(dataset.items), options.dims, options.seed)
    )
