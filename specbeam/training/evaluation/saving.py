"""Per-user values on disk, so that later runs can be compared user by user."""

import os
from pathlib import Path

import numpy as np

from specbeam.training.evaluation.evaluate import Evaluation
from specbeam.training.evaluation.values import METRICS


def save_users(evaluation: Evaluation, path: Path) -> None:
    """Write a compressed .npz file; it appears whole or not at all.

    Entries: "user_id" (U,), "truth_items" (U,) and per ranker "RANKER/items" (U, 20), item numbers
    of the dataset with -1 at the end of shorter lists, and "RANKER/GROUP/METRIC" (U,) in float32,
    NaN for users without truth items in the group.  Nothing in it is pickled.

    Args:
        evaluation: what to write.
        path: the file.
    """
    arrays: dict[str, np.ndarray] = {
        "user_id": np.array(evaluation.user_ids),
        "truth_items": np.array([len(user.truth) for user in evaluation.users], np.int32),
    }
    for name, ranked in evaluation.rankings.items():
        arrays[f"{name}/items"] = ranked
        for group, values in evaluation.values[name].items():
            for metric in METRICS:
                arrays[f"{name}/{group}/{metric}"] = values[metric].astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        with scratch.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
