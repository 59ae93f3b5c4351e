"""Tree rows equal plain forwards; compaction equals a fresh prefill; slots come back."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import Expansion, open_expansion
from specbeam.decoding.tree import CandidateTree
from specbeam.engine import BeamSession, NoFreeSlotError, SearchModel
from specbeam.engine.row_scorer import RowScorer
from tests.exactness.models import random_model, runner_of, whole_prefix_logprobs

DEPTH, CODES = 4, 6


@pytest.fixture(scope="module")
def world() -> tuple[ItemTrie, Expansion, object]:
    rng = np.random.default_rng(5)
    paths = np.unique(rng.integers(0, CODES, (200, DEPTH)), axis=0) + 3 + np.arange(DEPTH) * CODES
    trie = ItemTrie.build(paths, [str(n) for n in range(len(paths))])
    model = random_model(7, 3 + DEPTH * CODES, layers=3, kv_heads=1)
    return trie, open_expansion(trie, torch.device("cpu")), model


def check_scored(scorer: RowScorer, trie: ItemTrie, model: object, prompt: np.ndarray) -> int:
    """Every scored row's children have the log-probabilities of a plain forward of the path."""
    law = whole_prefix_logprobs(model)  # type: ignore[arg-type]
    checked = 0
    for level, scored in scorer.scored.items():
        nodes = scored.nodes
        assert (np.diff(nodes) > 0).all()
        after = law([[*prompt.tolist(), *p] for p in trie.node_paths(level, nodes).tolist()])
        for node, row, plain in zip(nodes, scored.child_logprobs, after, strict=True):
            first, last = trie.levels[level].first_child_of(np.arange(node, node + 2))
            tokens = trie.levels[level + 1].tokens_of(np.arange(first, last))
            np.testing.assert_allclose(row[: last - first], np.asarray(plain)[tokens], atol=1e-10)
            assert np.isneginf(row[last - first :]).all()
            checked += 1
    return checked


@pytest.mark.parametrize("seed", range(6))
def test_rows_equal_plain_forwards_before_and_after_compaction(
    world: tuple[ItemTrie, Expansion, object], seed: int
) -> None:
    trie, tensors, model = world
    rng = np.random.default_rng(seed)
    prompt = np.concatenate([[1], rng.integers(3, 27, int(rng.integers(0, 12)))])
    runner = runner_of(model)  # type: ignore[arg-type]
    scorer = RowScorer(SearchModel.open(runner, tensors), None)
    scorer.prefill(prompt)
    for _ in range(3):
        level = int(rng.integers(2, DEPTH))
        nodes = rng.choice(trie.levels[level].num_nodes, 6, replace=False)
        scorer.add_rows({level: nodes, 1: np.arange(2)})
        assert check_scored(scorer, trie, model, prompt) > 6
        keep = np.sort(rng.choice(trie.levels[1].num_nodes, 3, replace=False))
        beams = Beams(1, keep, np.zeros(3))
        scorer.forget_unrelated(beams)
        check_scored(scorer, trie, model, prompt)
        # Rows added after the gaps were closed see the moved keys and values.
        scorer.add_rows({2: np.arange(trie.levels[2].num_nodes)[::5]})
        check_scored(scorer, trie, model, prompt)
    scorer.close()


def test_kv_after_compaction_equals_a_fresh_prefill(
    world: tuple[ItemTrie, Expansion, object],
) -> None:
    trie, tensors, model = world
    runner = runner_of(model)  # type: ignore[arg-type]
    prompt = np.array([1, 5, 12, 20])
    scorer = RowScorer(SearchModel.open(runner, tensors), None)
    scorer.prefill(prompt)
    scorer.add_rows({3: np.arange(trie.levels[3].num_nodes)[::7]})
    node = int(np.arange(trie.levels[3].num_nodes)[::7][4])
    scorer.forget_unrelated(Beams(3, np.array([node]), np.zeros(1)))
    held = runner.pool.view(1)[:, :, :, : len(prompt) + 3].clone()
    path = trie.node_paths(3, np.array([node]))[0]
    runner.prefill(0, np.concatenate([prompt, path]))
    fresh = runner.pool.view(0)[:, :, :, : len(prompt) + 3]
    torch.testing.assert_close(held, fresh, atol=1e-10, rtol=0)


def test_slots_are_leased_and_returned(world: tuple[ItemTrie, Expansion, object]) -> None:
    _, tensors, model = world
    runner = runner_of(model, slots=2)  # type: ignore[arg-type]
    sessions = [BeamSession(SearchModel.open(runner, tensors), 3) for _ in range(2)]
    with pytest.raises(NoFreeSlotError):
        BeamSession(SearchModel.open(runner, tensors), 3)
    for session in sessions:
        session.close()
        session.close()
    assert runner.pool.free == 2


def test_resumed_search_ends_where_the_first_would_have(
    world: tuple[ItemTrie, Expansion, object],
) -> None:
    _, tensors, model = world
    runner = runner_of(model)  # type: ignore[arg-type]
    prompt = np.array([1, 8, 16])
    first = BeamSession(SearchModel.open(runner, tensors), 4)
    first.open(prompt)
    ends = []
    while not first.finished:
        other = BeamSession(SearchModel.open(runner, tensors), 4)
        other.open(prompt, resume=first.beams)
        while not other.finished:
            other.plain_step()
        ends.append(other.beams)
        other.close()
        first.plain_step()
    for end in ends:
        np.testing.assert_array_equal(end.nodes, first.beams.nodes)
        np.testing.assert_allclose(end.scores, first.beams.scores, atol=1e-12)
    first.close()


def test_a_tree_below_the_root_cannot_go_with_beams_to_resume(
    world: tuple[ItemTrie, Expansion, object],
) -> None:
    _, tensors, model = world
    with closing(BeamSession(SearchModel.open(runner_of(model), tensors), 3)) as session:  # type: ignore[arg-type]
        beams, nothing = Beams(1, np.arange(2), np.zeros(2)), np.zeros(0, np.int64)
        with pytest.raises(ValueError, match="cannot go with beams to resume"):
            session.open(np.array([1, 8]), beams, CandidateTree(0, nothing, nothing), 8)


def test_the_state_after_the_prompt_is_the_same_in_every_pass(
    world: tuple[ItemTrie, Expansion, object],
) -> None:
    trie, tensors, model = world
    runner = runner_of(model)  # type: ignore[arg-type]
    prompt, first = np.array([1, 8, 16]), trie.level_tokens(1)[:3].astype(np.int64)
    alone = runner.prefill(0, prompt)
    with closing(BeamSession(SearchModel.open(runner, tensors), 3)) as session:
        with pytest.raises(RuntimeError, match="not run yet"):
            _ = session.root_hidden
        tree = CandidateTree(0, np.zeros(len(first), np.int64), first)
        turn = session.open(prompt, tree=tree, max_rows=8)
        assert turn.rows >= len(first)
        torch.testing.assert_close(session.root_hidden, alone, atol=1e-12, rtol=0)
        session.plain_step()
        torch.testing.assert_close(session.root_hidden, alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_held_prefix_is_not_run_again_and_changes_nothing(
    world: tuple[ItemTrie, Expansion, object], seed: int
) -> None:
    trie, tensors, model = world
    rng = np.random.default_rng(seed)
    prompt = np.concatenate([[1], rng.integers(3, 27, int(rng.integers(2, 12)))])
    held = int(rng.integers(1, len(prompt)))
    runner = runner_of(model)  # type: ignore[arg-type]
    search = SearchModel.open(runner, tensors)
    level = int(rng.integers(2, DEPTH))
    wanted = {level: rng.choice(trie.levels[level].num_nodes, 4, replace=False)}
    for rows in (None, wanted):
        with closing(BeamSession(search, 3)) as session:  # leaves the prompt in the slot
            session.open(prompt)
        scorer = RowScorer(search, None)
        runner.meter.take()
        scorer.prefill(prompt, rows, held)
        assert len(runner.meter.take()) == 1
        assert check_scored(scorer, trie, model, prompt) >= (1 if rows is None else 5)
        # What follows stands on the same prompt.
        scorer.add_rows({1: np.arange(min(3, trie.levels[1].num_nodes))})
        assert check_scored(scorer, trie, model, prompt) > 3
        scorer.close()
    with closing(BeamSession(search, 3)) as session:
        cold = session.open(prompt)
        while not session.finished:
            session.plain_step()
        want = session.beams
    with closing(BeamSession(search, 3)) as session:
        warm = session.open(prompt, held=held)
        assert (cold.prompt_rows, warm.prompt_rows) == (len(prompt), len(prompt) - held)
        nothing = np.zeros(0, np.int64)
        while not session.finished:
            session.advance(CandidateTree(session.beams.level, nothing, nothing), 64)
        np.testing.assert_array_equal(session.beams.nodes, want.nodes)
        np.testing.assert_allclose(session.beams.scores, want.scores, atol=1e-9)
