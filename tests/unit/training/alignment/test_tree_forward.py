import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.candidates import candidates_of
from specbeam.training.alignment.prompts import by_length, pad_left
from specbeam.training.alignment.tree_forward import tree_logits
from specbeam.training.alignment.tree_layout import parent_columns
from specbeam.training.alignment.tree_search import tree_search
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.model import TRAINING_ATTENTION
from specbeam.training.ranking import SearchConfig, beam_search
from tests.unit.training.alignment.models import slow_logprobs, some_prompts

KINDS: tuple[TrainedScoreKind, ...] = ("TRIE", "VOCAB")
LENGTHS = [1, 6, 3, 3, 9]


def random_tree(trie: ItemTrie, prompts: int, widths: list[int], seed: int) -> list[np.ndarray]:
    """Return random distinct beams level by level, below those of the level before; some dead."""
    rng = np.random.default_rng(seed)
    above = np.zeros((prompts, 1), np.int64)
    levels = []
    for level, width in enumerate(widths):
        nodes = np.full((prompts, width), -1, np.int64)
        for row in range(prompts):
            alive = above[row][above[row] >= 0]
            first, end = (np.asarray(trie.levels[level].first_child_of(alive + i)) for i in (0, 1))
            children = np.concatenate([np.arange(a, b) for a, b in zip(first, end, strict=True)])
            chosen = rng.permutation(children)[: rng.integers(1, width + 1)]
            nodes[row, : len(chosen)] = chosen
        levels.append(nodes)
        above = nodes
    return levels


@pytest.mark.parametrize("seed", range(3))
def test_each_row_of_a_tree_equals_a_forward_of_its_own(
    target: nn.Module, trie: ItemTrie, seed: int
) -> None:
    prompts = some_prompts(trie, LENGTHS, seed)
    tree = random_tree(trie, len(prompts), [4, 5, 3], seed)
    with torch.inference_mode():
        logits = tree_logits(target, trie, pad_left(prompts), tree)
    for level, nodes in enumerate([np.zeros((len(prompts), 1), np.int64), *tree]):
        for row, column in zip(*np.nonzero(nodes >= 0), strict=True):
            node = int(nodes[row, column])
            path = trie.node_paths(level, np.array([node]))[0]
            tokens = torch.from_numpy(np.concatenate([prompts[row], path])).long()[None]
            with torch.inference_mode():
                expected = target(input_ids=tokens).logits[0, -1]
            torch.testing.assert_close(logits[level][row, column], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_targets_of_other_families_read_trees_alike(trie: ItemTrie, family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
        attn_implementation=TRAINING_ATTENTION,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    prompts = some_prompts(trie, LENGTHS)
    search = SearchConfig(6, trie.depth, "VOCAB")
    steps = list(tree_search(model, trie, pad_left(prompts), search))
    beams = [step.found.nodes.numpy() for step in steps[:-1]]
    with torch.inference_mode():
        logits = tree_logits(model, trie, pad_left(prompts), beams)
    for row, prompt in enumerate(prompts):
        alone = beam_search(model, trie, torch.from_numpy(prompt).long()[None], search)
        for step, expected in zip(steps, alone, strict=True):
            alive = int((step.found.nodes[row] >= 0).sum())
            assert step.found.nodes[row][:alive].tolist() == expected.nodes[0][:alive].tolist()
            own = torch.log_softmax(logits[step.level][row], dim=-1)
            torch.testing.assert_close(own, step.logprobs[row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 4, 20])
def test_searches_equal_those_with_one_cache_row_per_beam(
    target: nn.Module, trie: ItemTrie, kind: TrainedScoreKind, width: int
) -> None:
    prompts = some_prompts(trie, LENGTHS, seed=width)
    search = SearchConfig(width, trie.depth, kind)
    steps = list(tree_search(target, trie, pad_left(prompts), search))
    for row, prompt in enumerate(prompts):
        alone = beam_search(target, trie, torch.from_numpy(prompt).long()[None], search)
        for step, beams in zip(steps, alone, strict=True):
            alive = beams.nodes[0] >= 0
            found = step.found.nodes[row]
            assert found[: len(alive)][alive].tolist() == beams.nodes[0][alive].tolist()
            assert (found[int(alive.sum()) :] == -1).all()
            torch.testing.assert_close(
                step.found.scores[row][: len(alive)][alive],
                beams.scores[0][alive],
                atol=1e-4,
                rtol=0,
            )


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_proper_distributions_over_children_and_the_rest(
    target: nn.Module, trie: ItemTrie, kind: TrainedScoreKind
) -> None:
    prompts = some_prompts(trie, LENGTHS)
    tree = random_tree(trie, len(prompts), [6, 6], seed=4)
    with torch.inference_mode():
        logits = tree_logits(target, trie, pad_left(prompts), tree)
    for level, nodes in enumerate([np.zeros((len(prompts), 1), np.int64), *tree]):
        candidates = candidates_of(trie, level, nodes, kind)
        found = candidates.logprobs(logits[level]).double()
        exists = candidates.exists
        mass = (found.exp() * exists).sum(dim=2)
        torch.testing.assert_close(mass, torch.from_numpy(nodes >= 0).double(), atol=1e-5, rtol=0)
        assert (found[~exists] == 0.0).all()
        for row, column in zip(*np.nonzero(nodes >= 0), strict=True):
            expected = slow_logprobs(
                target, trie, prompts[row], level, int(nodes[row, column]), kind
            )
            np.testing.assert_allclose(
                found[row, column][exists[row, column]].numpy(), expected, atol=2e-4
            )


@pytest.mark.parametrize("others", [-1e4, -torch.inf, None])
def test_a_rest_that_rounds_to_nothing_stays_finite(trie: ItemTrie, others: float | None) -> None:
    candidates = candidates_of(trie, 0, np.zeros((1, 1), np.int64), "VOCAB")
    first = int(candidates.tokens.min())  # None: there are no token ids but the children's
    logits = torch.zeros(1, 1, first + candidates.tokens.shape[2] + (0 if others is None else 99))
    if others is None:
        candidates = dataclasses.replace(candidates, tokens=candidates.tokens - first)
        logits = logits[..., first:]
    else:
        logits[..., :first] = logits[..., -99:] = others
    logits.requires_grad_(True)
    found = candidates.logprobs(logits)
    assert torch.isfinite(found).all()
    assert float(found[0, 0, -1].detach()) == -80.0
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_beams_without_a_parent_are_noticed(trie: ItemTrie) -> None:
    one, other = trie.levels[1].first_child_of(np.array([0, 1])).tolist()
    above = np.array([[0, -1]])
    assert parent_columns(trie, 2, above, np.array([[one, -1]])).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="do not extend"):
        parent_columns(trie, 2, above, np.array([[one, other]]))


def test_prompts_are_grouped_by_length() -> None:
    prompts = [np.zeros(n, np.int32) for n in (5, 1, 3, 9, 2)]
    assert list(by_length(prompts, 2)) == [[1, 4], [2, 0], [3]]
    padded = pad_left([np.array([7, 8], np.int32), np.array([9], np.int32)])
    assert padded.tokens[0].tolist() == [7, 8]
    assert (padded.tokens[1, 1].item(), padded.padding.tolist()) == (9, [0, 1])
