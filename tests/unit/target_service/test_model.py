"""Room in a KV slot, and the self-test."""

import numpy as np
import pytest

from specbeam.decoding.beams import Beams
from specbeam.decoding.tree import CandidateTree
from specbeam.engine import ModelRunner
from target_service.model import load_target, scratch_rows
from target_service.session import SearchRequest, Step, TargetSession, VerifyTree
from target_service.warmup import SelfTestError, check_search
from tests.bundles import random_prompt, tiny_bundle


@pytest.fixture(scope="module")
def model():
    bundle = tiny_bundle(name="long", item_length=6, codes=3, num_items=400)
    return load_target(
        bundle.path, device="cpu", dtype="fp64", slots=1, max_rows=30, max_beam_width=12
    )


def every_child(trie, beams):
    """A tree of all nodes two levels below the beams: it claims every row there is."""
    parents, tokens, nodes, numbers = [], [], beams.nodes, np.arange(len(beams))
    for level in range(beams.level, min(beams.level + 2, trie.depth - 1)):
        every = np.arange(trie.levels[level].num_nodes + 1)
        first = trie.levels[level].first_child_of(every)
        sizes = first[nodes + 1] - first[nodes]
        children = np.concatenate([np.arange(first[n], first[n + 1]) for n in nodes])
        parents += np.repeat(numbers, sizes).tolist()
        tokens += trie.levels[level + 1].tokens_of(children).tolist()
        nodes, numbers = children, len(beams) + len(tokens) - len(children) + np.arange(sizes.sum())
    return CandidateTree(beams.level, np.asarray(parents), np.asarray(tokens))


@pytest.mark.parametrize("beside_the_prompt", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_greedy_tree_never_runs_out_of_rows(model, seed, beside_the_prompt):
    prompt, max_rows = random_prompt(model.bundle, seed), model.limits.max_rows
    tree = VerifyTree(every_child(model.bundle.trie, Beams.root()))
    request = SearchRequest(prompt, 12, max_rows, tree=tree if beside_the_prompt else None)
    session = TargetSession(model, request)
    try:
        result = session.open()
        assert result.turn.rows <= (max_rows if beside_the_prompt else 0)
        while not result.finished:
            tree = every_child(model.bundle.trie, result.turn.beams)
            result = session.advance(Step(result.turn.beams.level, VerifyTree(tree)))
    finally:
        session.close()
    assert model.runner.pool.free == 1


def test_scratch_rows_cover_every_pass():
    assert scratch_rows(4, 128, 256) == 128 + 3 * 256
    assert scratch_rows(4, 128, 20) == 4 * 128
    assert scratch_rows(1, 128, 20) == 128


def test_the_self_test_finds_a_wrong_pass_with_the_prompt(model, monkeypatch):
    """Tree rows at wrong positions."""
    prefill = ModelRunner.prefill_with_rows

    def one_too_far(self, slot, prompt, tokens, positions, sees, held=0):
        return prefill(self, slot, prompt, tokens, positions + 1, sees, held)

    check_search(model)
    monkeypatch.setattr(ModelRunner, "prefill_with_rows", one_too_far)
    with pytest.raises(SelfTestError, match="two ways"):
        check_search(model)


def test_the_self_test_finds_two_answers(model, monkeypatch):
    check_search(model)
    advance = TargetSession.advance

    def wrong(self, step):
        result = advance(self, step)
        self._search.beams = Beams(0, np.zeros(1, np.int64), np.zeros(1))
        object.__setattr__(result.turn, "beams", shifted(result.turn.beams, step))
        return result

    def shifted(beams, step):
        offset = 0.5 if type(step.how).__name__ == "RunToEnd" else 0.0
        return Beams(beams.level, beams.nodes, beams.scores + offset)

    monkeypatch.setattr(TargetSession, "advance", wrong)
    with pytest.raises(SelfTestError, match="two ways"):
        check_search(model)
