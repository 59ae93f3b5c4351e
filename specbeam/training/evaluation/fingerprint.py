"""Which data a saved baseline was fitted on."""

import hashlib

import numpy as np

from specbeam.training.data.dataset import Dataset


def fitting_fingerprint(dataset: Dataset) -> str:
    """Return a hex digest of all that baselines may see: items, train and valid interactions.

    Test interactions do not count: a baseline may be evaluated on other ones.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update("\n".join(dataset.items.item_ids).encode())
    for split in ("train", "valid"):
        histories = dataset.histories(split)
        lengths = np.array([len(history) for history in histories], np.int64)
        digest.update(lengths.tobytes())
        digest.update(np.concatenate(histories).astype(np.int32).tobytes())
    return digest.hexdigest()
