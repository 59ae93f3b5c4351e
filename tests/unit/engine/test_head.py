"""Head slices and vocabulary tiles score what whole rows of logits do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie, pad_paths
from specbeam.decoding.scoring import SCORE_KINDS, Scoring
from specbeam.engine import head as head_module
from specbeam.engine.head import LevelHead
from tests.exactness.models import random_model, runner_of

VOCABULARY = 90


def catalogue(contiguous: bool) -> ItemTrie:
    rng = np.random.default_rng(3)
    if contiguous:
        paths = rng.integers(0, 20, (80, 3)) + 3 + np.arange(3) * 25
    else:
        paths = rng.choice(np.arange(3, VOCABULARY, 4), (80, 3))
    return ItemTrie.build(
        np.unique(paths, axis=0), [str(n) for n in range(len(np.unique(paths, axis=0)))]
    )


@pytest.mark.parametrize("kind", SCORE_KINDS)
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_scores_equal_the_definition(
    kind: str, contiguous: bool, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "WHOLE_VOCABULARY", VOCABULARY if whole else 0)
    monkeypatch.setattr(head_module, "TILE", 13)
    trie, runner = catalogue(contiguous), runner_of(random_model(1, VOCABULARY))
    head = LevelHead(runner, trie, Scoring(kind))
    hidden = torch.randn(7, 16, dtype=torch.float64)
    logits = runner.logits(hidden)
    row = 0
    for level, scores in zip((0, 1, 2), head.scores([(0, 2), (1, 4), (2, 1)], hidden), strict=True):
        rows = (2, 4, 1)[level]
        codes = torch.from_numpy(trie.level_tokens(level + 1)).long()
        want = logits[row : row + rows]
        if kind == "VOCAB":
            want = torch.log_softmax(want, -1)
        want = want[:, codes]
        if kind == "LEVEL":
            want = torch.log_softmax(want, -1)
        columns = torch.from_numpy(np.asarray(scores.columns.host(codes.numpy()), np.int64))
        torch.testing.assert_close(scores.values[:, columns], want, atol=1e-12, rtol=0)
        torch.testing.assert_close(scores.columns.device(codes), columns, check_dtype=False)
        assert scores.over_children == (kind == "TRIE")
        row += rows


def test_contiguous_codes_are_views_of_the_head() -> None:
    runner = runner_of(random_model(1, VOCABULARY))
    head = LevelHead(
        runner,
        catalogue(True),
        Scoring("LEVEL", tuple(np.arange(3 + 25 * d, 28 + 25 * d) for d in range(3))),
    )
    assert head._slices is not None and runner.head_weight is not None
    storage = runner.head_weight.untyped_storage().data_ptr()
    assert all(part.weight.untyped_storage().data_ptr() == storage for part in head._slices)


def test_unused_codes_count_under_level() -> None:
    trie, runner = catalogue(True), runner_of(random_model(1, VOCABULARY))
    books = tuple(np.arange(3 + 25 * d, 28 + 25 * d) for d in range(3))
    hidden = torch.randn(2, 16, dtype=torch.float64)
    (scores,) = LevelHead(runner, trie, Scoring("LEVEL", books)).scores([(1, 2)], hidden)
    want = torch.log_softmax(runner.logits(hidden)[:, 28:53], -1)
    torch.testing.assert_close(scores.values, want, atol=1e-12, rtol=0)


def test_what_does_not_fit_is_refused() -> None:
    trie = catalogue(True)
    with pytest.raises(ValueError, match="beyond the model's vocabulary of 50"):
        LevelHead(runner_of(random_model(1, 50)), trie, Scoring())
    with pytest.raises(ValueError, match="not in its codebook"):
        Scoring("LEVEL", (np.arange(3, 5),) * 3).codebook(trie, 1)
    with pytest.raises(ValueError, match="score kind is 'X'"):
        Scoring("X")


def test_padding_has_no_column() -> None:
    trie = ItemTrie.build(pad_paths([[5, 6], [7]], ending=[2]), ["a", "b"])
    assert [Scoring().codebook(trie, level).tolist() for level in (1, 2, 3)] == [
        [5, 7],
        [2, 6],
        [2],
    ]
