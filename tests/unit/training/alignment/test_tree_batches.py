import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.teacher_shards import TeacherDataError
from specbeam.training.alignment.tree_batches import (
    TeacherPrompts,
    TreeBatchMaker,
    rows_levels,
)
from specbeam.training.alignment.tree_forward import tree_logits
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from tests.unit.training.alignment.teachers import TEMPLATE, make_maker, make_prompts

KINDS: tuple[TrainedScoreKind, ...] = ("TRIE", "VOCAB")


@pytest.mark.parametrize("kind", KINDS)
def test_stored_rows_equal_those_the_target_gives_live(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset, kind: TrainedScoreKind
) -> None:
    prompts = make_prompts(target, trie, small_dataset, kind)
    trees = prompts.trees(np.array([17, 3, 0, 9]))
    assert [rows.level for rows in trees.levels] == [0, 1, 2]
    with torch.inference_mode():
        logits = tree_logits(target, trie, trees.prompts, trees.beams)
    for rows, row_logits in zip(trees.levels, logits, strict=True):
        exists = rows.candidates.exists
        live = rows.candidates.logprobs(row_logits)
        assert (rows.candidates.has_else) == (kind == "VOCAB")
        torch.testing.assert_close(rows.teacher, live, atol=5e-3, rtol=2e-3)
        mass = (rows.teacher.exp() * exists).sum(dim=2)
        torch.testing.assert_close(mass, exists.any(dim=2).float(), atol=1e-5, rtol=0)


def test_scores_of_beams_are_sums_of_their_steps(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    trees = make_prompts(target, trie, small_dataset).trees(np.arange(18))
    for above, rows, nodes in zip(trees.levels, trees.levels[1:], trees.beams, strict=False):
        total = above.scores[..., None] + above.teacher
        for prompt, beam in zip(*np.nonzero(nodes >= 0), strict=True):
            place = above.candidates.children[prompt] == nodes[prompt, beam]
            place &= above.candidates.exists[prompt].numpy()
            step = total[prompt][torch.from_numpy(place)]
            assert len(step) == 1
            assert float(step) == pytest.approx(float(rows.scores[prompt, beam]), abs=1e-2)


def test_final_beams_are_counted_below_each_candidate(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    trees = make_prompts(target, trie, small_dataset, "VOCAB").trees(np.arange(6))
    for rows in trees.levels:
        below = trees.beams_below(trie, rows)
        assert below.shape == rows.teacher.shape
        torch.testing.assert_close(below.sum(dim=(1, 2)), torch.ones(6))
        for prompt, leaves in enumerate(trees.final):
            alive = leaves[leaves >= 0]
            steps = trie.levels[rows.level + 1].node_of_leaf(alive)
            children, exists = rows.candidates.children[prompt], rows.candidates.exists[prompt]
            for row, column in zip(*np.nonzero(exists[:, :-1].numpy()), strict=True):
                share = (steps == children[row, column]).mean()
                assert float(below[prompt, row, column]) == pytest.approx(share, abs=1e-6)
            assert (below[prompt, :, -1] == 0.0).all()


def test_an_epoch_has_every_prompt_once_in_batches_of_limited_size(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    prompts = make_prompts(target, trie, small_dataset)
    assert prompts.rows_per_prompt == 1 + 5 + 5
    maker = TreeBatchMaker(prompts, batch_tokens=130, seed=1)
    first, again, second = maker.epoch(0), maker.epoch(0), maker.epoch(1)
    chosen = [batch.chosen.tolist() for batch in first]
    assert sorted(index for some in chosen for index in some) == list(range(18))
    assert [batch.chosen.tolist() for batch in again] == chosen
    assert [batch.chosen.tolist() for batch in second] != chosen
    for batch in first:
        tokens = batch.trees.prompts.tokens.shape[1] + prompts.rows_per_prompt - 1
        assert len(batch.chosen) * tokens <= 130 or len(batch.chosen) == 1
        assert batch.num_labels == len(batch.chosen) * 11
    assert len(first) < 18


def test_data_that_do_not_fit_the_catalogue_are_noticed(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    shard = make_maker(target, trie, small_dataset).make(0)
    one_less = dataclasses.replace(shard, logprob_begin=np.minimum(shard.logprob_begin, 9))
    with pytest.raises(TeacherDataError, match="other candidates"):
        TeacherPrompts([one_less], trie, TEMPLATE, "TRIE")
    strange = shard.beams[1].copy()
    strange[0, 0] = trie.levels[2].num_nodes - 1 - strange[0, 0]
    beams = (shard.beams[0], strange, *shard.beams[2:])
    with pytest.raises(TeacherDataError, match="do not extend"):
        TeacherPrompts([dataclasses.replace(shard, beams=beams)], trie, TEMPLATE, "TRIE")


def test_rows_stop_above_the_level_that_is_never_drafted() -> None:
    assert [rows_levels(depth) for depth in (2, 3, 4, 5)] == [2, 2, 3, 4]
