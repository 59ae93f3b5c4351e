"""Who is evaluated: the history that is shown and the items that are to be found."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import Dataset

Int32Array = npt.NDArray[np.int32]
EvaluatedSplit = Literal["valid", "test"]


@dataclass(frozen=True, slots=True)
class EvaluationUser:
    """One user.

    Attributes:
        number: user number in the dataset.
        history: item numbers shown to the ranker, oldest first.
        truth: item numbers to be found; not empty.
    """

    number: int
    history: Int32Array
    truth: Int32Array


def evaluation_users(
    dataset: Dataset,
    split: EvaluatedSplit = "test",
    num_users: int | None = None,
    seed: int = 0,
) -> list[EvaluationUser]:
    """Return the users with items in a split, ascending by number.

    Args:
        dataset: histories.
        split: "test": the history is train + valid; "valid": the history is train.
        num_users: sample at most this many; None for all.
        seed: of the sample.
    """
    train, valid = dataset.histories("train"), dataset.histories("valid")
    truth = dataset.histories(split)
    users = [user for user, items in enumerate(truth) if len(items)]
    if num_users is not None and num_users < len(users):
        users = sorted(np.random.default_rng(seed).permutation(users)[:num_users].tolist())
    shown = (
        train
        if split == "valid"
        else [np.concatenate(pair) for pair in zip(train, valid, strict=True)]
    )
    return [EvaluationUser(user, shown[user], np.unique(truth[user])) for user in users]
