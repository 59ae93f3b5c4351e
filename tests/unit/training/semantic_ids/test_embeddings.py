import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.cooccurrence import (
    cooccurrence_counts,
    cooccurrence_vectors,
    positive_pmi,
)
from specbeam.training.semantic_ids.embeddings import embed, joined
from specbeam.training.semantic_ids.options import SemanticIdOptions
from specbeam.training.semantic_ids.text import item_documents, text_vectors
from specbeam.training.semantic_ids.vectors import normalised

HISTORIES = [np.array(h, np.int32) for h in ([0, 1, 2, 1, 0], [3, 3, 1], [], [4], [2, 0, 3])]


def test_counts_weigh_pairs_by_distance() -> None:
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for history in HISTORIES:
        for i, a in enumerate(history.tolist()):
            for j, b in enumerate(history.tolist()):
                if 0 < abs(i - j) <= 2 and a != b:
                    expected[a, b] += 1 / abs(i - j)
    counts = cooccurrence_counts(HISTORIES, 6, window=2).toarray()
    dense = np.zeros((6, 6))
    for pair, weight in expected.items():
        dense[pair] = weight
    np.testing.assert_allclose(counts, dense)


def test_positive_pmi_is_its_definition() -> None:
    counts = cooccurrence_counts(HISTORIES, 6)
    dense = counts.toarray()
    total = dense.sum()
    smooth = dense.sum(axis=0) ** 0.75
    expected = np.zeros_like(dense)
    for i, j in zip(*np.nonzero(dense), strict=True):
        joint = dense[i, j] / total
        pmi = math.log(joint / (dense[i].sum() / total * smooth[j] / smooth.sum()))
        expected[i, j] = max(pmi, 0.0)
    np.testing.assert_allclose(positive_pmi(counts).toarray(), expected, rtol=1e-6)


def test_items_taken_together_are_near_and_lonely_ones_zero() -> None:
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(5) + 5 * (user % 2)).astype(np.int32) for user in range(40)]
    vectors = normalised(cooccurrence_vectors(histories, 11, 4, seed=0))
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, np.nan)
    within, across = np.nanmean(likeness[:5, :5]), likeness[:5, 5:10].mean()
    assert within > across + 0.5
    assert not vectors[10].any()


def test_no_pairs_is_an_error() -> None:
    with pytest.raises(DatasetError, match="two different items"):
        cooccurrence_vectors([np.array([1, 1], np.int32), np.array([0], np.int32)], 2, 4, seed=0)


def test_texts_with_the_same_words_are_near() -> None:
    pens = [f"blue ink pen number{i}" for i in range(8)]
    files = [f"paper folder letter size{i}" for i in range(8)]
    vectors = normalised(text_vectors([*pens, *files, "", "..."], 4, seed=0))
    likeness = vectors @ vectors.T
    assert likeness[:8, :8].min() > 0.5 > 0.3 > np.abs(likeness[:8, 8:16]).max()
    assert not vectors[16:].any()


def test_scripts_without_spaces_share_characters() -> None:
    # In each half one pair of characters recurs, in front of varying others.
    left = [f"墨水{character}" for character in "甲乙丙丁戊己"]
    right = [f"文件{character}" for character in "甲乙丙丁戊己"]
    vectors = normalised(text_vectors(left + right, 3, seed=0))
    likeness = vectors @ vectors.T
    assert likeness[:6, :6].mean() > likeness[:6, 6:].mean() + 0.3


@pytest.mark.parametrize("documents", [["a b"] * 3, ["one word each"], ["same words"] * 60])
def test_tiny_or_uniform_catalogues(documents: list[str]) -> None:
    if documents[0] == "a b":
        with pytest.raises(DatasetError, match="with a word in it"):
            text_vectors(documents, 4, seed=0)
    else:
        assert text_vectors(documents, 4, seed=0).any(axis=1).all()


def test_documents_leave_out_ids_and_words_made_from_codes(small_dataset: Dataset) -> None:
    level = small_dataset.levels[0]
    items = small_dataset.items
    first, second = (f"{level.name}_{path[0] - level.token_offset}" for path in items.paths[:2])
    names = " ".join(
        f"{level.name}_{token - level.token_offset}"
        for level, token in zip(small_dataset.levels, items.paths[1], strict=True)
    )
    titles = (items.item_ids[0], f"item 2 ({names})", *items.titles[2:])
    topics = ((first, "Pens"), (second,), *items.topics[2:])
    changed = replace(items, titles=titles, topics=topics, texts=())
    documents = item_documents(replace(small_dataset, items=changed))
    assert documents[:2] == ["Pens", ""]
    assert documents[2].startswith(items.titles[2])


def test_normalised_rows_have_length_one_or_zero() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e-9, 0], [1e3, 0]], np.float32)
    assert np.linalg.norm(normalised(vectors), axis=1) == pytest.approx([1, 0, 0, 1])
    assert normalised(vectors)[0] == pytest.approx([0.6, 0.8])


def test_joined_blocks_share_the_norm() -> None:
    left = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    right = np.array([[1], [0], [0]], np.float32)
    both = joined(left, right, 0.25)
    np.testing.assert_allclose(both, [[0.5, 0, 0.75**0.5], [0, 1, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("method", ["text", "cooccurrence", "text+cooccurrence"])
def test_embeddings_repeat_bit_for_bit(small_dataset: Dataset, method: str) -> None:
    options = SemanticIdOptions(method=method, dims=8)  # type: ignore[arg-type]
    notes: list[str] = []
    first, again = (embed(small_dataset, options, notes.append) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    norms = np.linalg.norm(first, axis=1)
    assert all(norm == pytest.approx(1, abs=1e-5) or norm == 0 for norm in norms)
    assert len(notes) == 2 * Counter(method)["+"] + 2


def test_only_train_histories_count(small_dataset: Dataset) -> None:
    interactions = small_dataset.interactions
    train = interactions.split == 0
    shuffled = np.where(train, interactions.item, interactions.item[::-1])
    other = replace(small_dataset, interactions=replace(interactions, item=shuffled))
    options = SemanticIdOptions(method="cooccurrence", dims=8)
    first, second = (
        embed(dataset, options, lambda text: None) for dataset in (small_dataset, other)
    )
    np.testing.assert_array_equal(first, second)
