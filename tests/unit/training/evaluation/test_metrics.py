import math

import numpy as np
import pytest

from specbeam.training.evaluation.metrics import ndcg_at, recall_at
from specbeam.training.evaluation.values import CUTOFFS, NO_ITEM, user_values


def test_recall_and_ndcg_of_a_known_ranking() -> None:
    ranked, truth = [4, 7, 1, 9], [7, 9, 5]
    assert recall_at(ranked, truth, 2) == pytest.approx(1 / 3)
    assert recall_at(ranked, truth, 4) == pytest.approx(2 / 3)
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at(ranked, truth, 4) == pytest.approx(gain / ideal)
    assert ndcg_at([7, 9, 5], truth, 10) == pytest.approx(1.0)


def test_values_of_all_users_are_those_of_each_user() -> None:
    rng = np.random.default_rng(0)
    num_items, num_users = 60, 80
    popularity = rng.integers(0, 3, num_items).astype(np.int32)
    ranked = np.stack([rng.permutation(num_items)[:20] for _ in range(num_users)]).astype(np.int32)
    for row, length in enumerate(rng.integers(0, 21, num_users)):
        ranked[row, length:] = NO_ITEM
    truth = [
        rng.permutation(num_items)[: rng.integers(1, 30)].astype(np.int32) for _ in range(num_users)
    ]
    values = user_values(ranked, truth, popularity)
    for user, items in enumerate(truth):
        found = [item for item in ranked[user].tolist() if item != NO_ITEM]
        seen = popularity[items] > 0
        for group, wanted in {"all": items, "seen": items[seen], "unseen": items[~seen]}.items():
            for k in CUTOFFS:
                recall, ndcg = values[group][f"recall@{k}"][user], values[group][f"ndcg@{k}"][user]
                if not len(wanted):
                    assert np.isnan([recall, ndcg]).all()
                    continue
                assert recall == pytest.approx(recall_at(found, wanted.tolist(), k))
                assert ndcg == pytest.approx(ndcg_at(found, wanted.tolist(), k))
    assert np.isnan(values["unseen"]["ndcg@5"]).any()
