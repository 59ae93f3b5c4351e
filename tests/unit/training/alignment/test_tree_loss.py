from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.config import AlignmentConfig, LossName, make_config
from specbeam.training.alignment.on_policy import StudentBeams
from specbeam.training.alignment.tree_batches import TeacherPrompts, TreeBatch
from specbeam.training.alignment.tree_loss import TreeLoss, level_loss_of
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.ranking import Beams, expand
from tests.unit.training.alignment.models import slow_logprobs
from tests.unit.training.alignment.teachers import make_prompts

KINDS: tuple[TrainedScoreKind, ...] = ("TRIE", "VOCAB")
BEAM_LOSSES: tuple[LossName, ...] = ("atspeed-s", "atspeed-r", "beam-kl", "row-kl", "seq-kd")


def loss_of(
    model: nn.Module, prompts: TeacherPrompts, config: AlignmentConfig, chosen: list[int]
) -> torch.Tensor:
    loss = TreeLoss(level_loss_of(config, prompts.trie), prompts.trie, bf16=False)
    return loss(model, TreeBatch(prompts, np.array(chosen)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BEAM_LOSSES)
def test_every_loss_has_a_finite_value_and_gradient(
    target: nn.Module,
    draft: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    kind: TrainedScoreKind,
    name: LossName,
) -> None:
    prompts = make_prompts(target, trie, small_dataset, kind)
    loss = loss_of(draft, prompts, make_config(name), [0, 5, 11])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in draft.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    assert any((g != 0.0).any() for g in gradients)


@pytest.mark.parametrize("name", ["row-kl", "atspeed-r", "beam-kl"])
def test_a_draft_that_is_the_target_loses_nothing(
    target: nn.Module, draft: nn.Module, trie: ItemTrie, small_dataset: Dataset, name: str
) -> None:
    prompts = make_prompts(target, trie, small_dataset, "VOCAB")
    own = loss_of(target, prompts, make_config(name), list(range(18)))
    other = loss_of(draft, prompts, make_config(name), list(range(18)))
    assert own.item() < 0.01 < other.item()


@pytest.mark.parametrize("kind", KINDS)
def test_row_losses_equal_slow_ones_row_by_row(
    target: nn.Module,
    draft: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    kind: TrainedScoreKind,
) -> None:
    prompts = make_prompts(target, trie, small_dataset, kind)
    chosen = [2, 8, 13]
    trees = prompts.trees(np.array(chosen))
    distances: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for row, number in enumerate(chosen):
        prompt = prompts.prompts[number]
        for level in range(3):
            nodes = [0] if level == 0 else trees.beams[level - 1][row].tolist()
            for node in (n for n in nodes if n >= 0):
                p = slow_logprobs(target, trie, prompt, level, node, kind)
                q = slow_logprobs(draft, trie, prompt, level, node, kind)
                distances[level].append(0.5 * float(np.abs(np.exp(p) - np.exp(q)).sum()))
    expected = sum((1, 2, 1)[level] * np.mean(rows) for level, rows in distances.items())
    found = loss_of(draft, prompts, make_config("atspeed-r"), chosen)
    assert found.item() == pytest.approx(expected, abs=2e-3)


def test_seq_kd_equals_the_cross_entropy_of_the_final_beams(
    target: nn.Module, draft: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    prompts = make_prompts(target, trie, small_dataset)
    trees = prompts.trees(np.array([4]))
    leaves = trees.final[0][trees.final[0] >= 0]
    total = 0.0
    for leaf in leaves:
        for level in range(3):
            node, child = (
                int(trie.levels[level + i].node_of_leaf(np.array([leaf]))[0]) for i in (0, 1)
            )
            q = slow_logprobs(draft, trie, prompts.prompts[4], level, node, "TRIE")
            step = child - int(trie.levels[level].first_child_of(np.array([node]))[0])
            total -= (1, 2, 1)[level] * q[step] / len(leaves)
    found = loss_of(draft, prompts, make_config("seq-kd"), [4])
    assert found.item() == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("atspeed-s", {"temperature": 0.7}),
        ("atspeed-s", {"plain": True}),
        ("atspeed-s", {"top_k": 2}),
        ("atspeed-r", {"temperature": 0.7}),
        ("beam-kl", {"temperature": 0.7}),
    ],
)
def test_settings_reach_the_loss(
    target: nn.Module,
    draft: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    name: str,
    changed: dict[str, Any],
) -> None:
    prompts = make_prompts(target, trie, small_dataset)
    usual = loss_of(draft, prompts, make_config(name), [0, 1, 2])
    other = loss_of(draft, prompts, make_config(name, **changed), [0, 1, 2])
    assert abs(usual.item() - other.item()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_on_policy_trees_hold_the_drafts_beams_and_the_targets_word(
    target: nn.Module,
    draft: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    kind: TrainedScoreKind,
) -> None:
    prompts = make_prompts(target, trie, small_dataset, kind)
    chosen = np.array([1, 6, 12, 16])
    trees = prompts.trees(chosen)
    students = StudentBeams(target, trie, kind, share=1.0, bf16=False)
    found = students.trees_of(draft, trees)
    assert (found.beams[0] == trees.beams[0]).all()
    assert (found.beams[1] != trees.beams[1]).any()
    for row, number in enumerate(chosen):
        prompt, first = prompts.prompts[number], trees.beams[0][row]
        # The draft's step from the target's exact first level, computed without the tree.
        vocabulary = torch.full((1, len(first), small_dataset.vocab_size), -torch.inf)
        for column, node in enumerate(first):
            logprobs = slow_logprobs(draft, trie, prompt, 1, int(node), kind)
            begin, end = (
                int(trie.levels[1].first_child_of(np.array([node + i]))[0]) for i in (0, 1)
            )
            tokens = trie.levels[2].tokens_of(np.arange(begin, end))
            vocabulary[0, column, tokens] = torch.from_numpy(logprobs[: end - begin]).float()
        start = Beams(
            torch.from_numpy(first)[None], trees.levels[1].scores[row][None], torch.zeros(1, 5)
        )
        expected = expand(trie, 1, start, vocabulary, 5, kind).nodes[0]
        assert found.beams[1][row].tolist() == expected.tolist()
        for column, node in enumerate(found.beams[1][row]):
            rows = found.levels[2]
            exists = rows.candidates.exists[row, column]
            live = slow_logprobs(target, trie, prompt, 2, int(node), kind)
            np.testing.assert_allclose(rows.teacher[row, column][exists].numpy(), live, atol=2e-4)
            above = int(trie.levels[1].parent_of(np.array([node]))[0])
            step = slow_logprobs(target, trie, prompt, 1, above, kind)
            gained = step[node - int(trie.levels[1].first_child_of(np.array([above]))[0])]
            score = float(trees.levels[1].scores[row][first.tolist().index(above)]) + gained
            assert float(rows.scores[row, column]) == pytest.approx(score, abs=2e-3)


def test_the_on_policy_share_divides_the_prompts(
    target: nn.Module, draft: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    prompts = make_prompts(target, trie, small_dataset)
    batch = TreeBatch(prompts, np.arange(18))
    torch.manual_seed(0)
    kept, changed = StudentBeams(target, trie, "TRIE", share=0.4, bf16=False).split(draft, batch)
    assert kept is not None and changed is not None
    assert len(kept.prompts) + len(changed.prompts) == 18
    all_own = StudentBeams(target, trie, "TRIE", share=1.0, bf16=False)
    assert all_own.split(draft, batch)[0] is None
    level_loss = level_loss_of(make_config("row-kl", on_policy=0.5), trie)
    draft.train()
    loss = TreeLoss(level_loss, trie, bf16=False, student=all_own)(draft, batch)
    assert draft.training
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(p.grad).all() for p in draft.parameters() if p.grad is not None)
