"""What a root head proposes, and what it refuses to be loaded for."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path as FilePath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.scoring import SCORE_KINDS, Scoring
from specbeam.decoding.tree import CandidateTree, resolve_tree
from specbeam.engine import (
    BeamSession,
    ModelRunner,
    RunnerConfig,
    SearchModel,
    SearchSpec,
    plain_search,
)
from specbeam.engine.root_head import RootHead
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig, RootHeadError, save_root_head
from tests.exactness.cases import PLACES, World
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS, random_request
from tests.unit.engine.root_head_reference import SlowHead, children_of

BOTTLENECK = 5


def random_blocks(seed: int, hidden: int, count: int) -> StateBlocks:
    """Blocks that change a state noticeably, in fp64."""
    torch.manual_seed(seed)
    blocks = StateBlocks(hidden, BOTTLENECK, count).double()
    with torch.no_grad():
        for name, parameter in blocks.named_parameters():
            parameter.uniform_(0.5, 1.5) if "norm" in name else parameter.normal_(std=0.5)
    return blocks.eval().requires_grad_(False)


def head_of(model: SearchModel, blocks: StateBlocks) -> RootHead:
    runner = model.runner
    config = RootHeadConfig(
        runner.hidden_size, runner.vocab_size, len(blocks) + 1, BOTTLENECK, "some target"
    )
    return RootHead(config, blocks, model)


def root_hidden(runner: ModelRunner, prompt: np.ndarray) -> torch.Tensor:
    slot = runner.pool.acquire()
    hidden = runner.prefill(slot, prompt)
    runner.pool.release(slot)
    return hidden


def random_beams(rng: np.random.Generator, trie: ItemTrie, alive: set[tuple[int, ...]]) -> Beams:
    """Some admitted nodes of some level, perhaps the root."""
    level = int(rng.integers(0, trie.depth))
    if not level:
        return Beams.root()
    nodes = np.sort(rng.permutation(trie.levels[level].num_nodes)[: int(rng.integers(1, 12))])
    paths = trie.node_paths(level, nodes).tolist()
    nodes = nodes[[tuple(path) in alive for path in paths]]
    return Beams(level, nodes.astype(np.int64), rng.normal(size=len(nodes)) * 2)


def by_level(tree: ScoredTree, beams: Beams) -> list[tuple[list[int], list[int], list[float]]]:
    """Parents as places in the level above, tokens and log-probabilities of each level."""
    found, above, start, width = [], 0, 0, len(beams)
    while start < len(tree):
        # A level ends where a parent lies in the level itself.
        inside = np.flatnonzero(tree.parents[start:] >= width + start)
        end = start + int(inside[0]) if len(inside) else len(tree)
        found.append(
            (
                (tree.parents[start:end] - above).tolist(),
                tree.tokens[start:end].tolist(),
                tree.logprobs[start:end].tolist(),
            )
        )
        above, start = width + start, end
    return found


@pytest.mark.parametrize("convention", SCORE_KINDS)
@pytest.mark.parametrize("number", range(len(MAKERS)))
def test_proposals_equal_the_slow_reference(number: int, convention: str) -> None:
    world, rng = World.make(number), np.random.default_rng([number, 3])
    catalogue, trie = world.catalogue, world.trie
    books = catalogue.codebooks or [
        trie.level_tokens(level).tolist() for level in range(1, trie.depth + 1)
    ]
    compared = 0
    for round_ in range(12):
        prompt = world.prompts[int(rng.integers(len(world.prompts)))]
        kinds = FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))]
        request = random_request(rng, catalogue, prompt, kinds if round_ % 2 else frozenset())
        children = children_of(catalogue.items, request.item_filter)
        beams = random_beams(rng, trie, set(children))
        model = world.search_model("target", convention, PLACES[round_ % 3 == 0])
        blocks = random_blocks(round_, model.runner.hidden_size, int(rng.integers(0, trie.depth)))
        hidden = root_hidden(model.runner, np.array(prompt.tokens))
        width = int(rng.integers(1, 12))
        # Budgets just above W are where keeping the own beam matters.
        nodes = int(rng.choice([1, width + 1, width + 2, 60]))
        asked = int(rng.integers(0, 4)), nodes, width
        compiled = world.compiler.compile(
            world.compiler.resolve(world.as_item_filter(request.item_filter))
        )
        tree = head_of(model, blocks).propose(hidden, beams, *asked, compiled)
        assert tree.base_level == beams.level
        if not len(beams):
            assert not len(tree)
            continue
        slow = SlowHead(world.model, blocks, children, trie.depth, convention, books)
        prefixes = list(map(tuple, beams.paths(trie).tolist()))
        pairs = list(zip(prefixes, beams.scores.tolist(), strict=True))
        want = slow.propose(hidden, pairs, *asked)
        got = by_level(tree, beams)
        assert len(got) == len(want)
        for (parents, tokens, logprobs), nodes in zip(got, want, strict=True):
            assert parents == [node.parent for node in nodes]
            assert tokens == [node.path[-1] for node in nodes]
            np.testing.assert_allclose(
                logprobs, [node.logprob for node in nodes], rtol=1e-6, atol=1e-6
            )
            compared += len(nodes)
    assert compared or trie.depth == 1 or len(catalogue.items) < 4


def test_the_own_beam_does_not_depend_on_the_budget() -> None:
    displaced = 0
    for number in (4, 5, 6):
        world = World.make(number)
        model = world.search_model("target", "VOCAB", "host")
        for seed in range(6):
            head = head_of(model, random_blocks(seed, model.runner.hidden_size, 2))
            prompt = world.prompts[seed % len(world.prompts)]
            hidden = root_hidden(model.runner, np.array(prompt.tokens))
            for width in (1, 2, 3, 5):
                narrow = _nodes(world.trie, head.propose(hidden, Beams.root(), 3, width, width))
                # Without a beam of its own a head would answer this for N nodes.
                best = _nodes(
                    world.trie, head.propose(hidden, Beams.root(), 3, width + 1, width + 1)
                )
                wide = _nodes(world.trie, head.propose(hidden, Beams.root(), 3, width + 1, width))
                for level, nodes in narrow.items():
                    assert set(nodes) <= set(wide[level])
                    displaced += not set(nodes) <= set(best[level])
    assert displaced, "in no case is the own beam worth keeping"


def _nodes(trie: ItemTrie, tree: ScoredTree) -> dict[int, list[int]]:
    candidates = CandidateTree(tree.base_level, tree.parents, tree.tokens)
    resolved = resolve_tree(trie, Beams.root(), candidates)
    assert not resolved.dropped
    return {level: nodes.tolist() for level, nodes in resolved.levels.items()}


@pytest.mark.parametrize("number", [3, 4, 7, 10])
@pytest.mark.parametrize("convention", SCORE_KINDS)
def test_a_head_changes_no_answer(number: int, convention: str) -> None:
    world = World.make(number)
    model = world.search_model("target", convention, "host")
    head = head_of(model, random_blocks(1, model.runner.hidden_size, world.trie.depth - 1))
    prompt = np.array(world.prompts[0].tokens)
    hidden = root_hidden(model.runner, prompt)
    want = plain_search(model, SearchSpec(prompt, 5)).beams
    with closing(BeamSession(model, 5)) as session:
        session.open(prompt)
        while not session.finished:
            tree = head.propose(hidden, session.beams, 2, 20, 5)
            turn = session.advance(CandidateTree(tree.base_level, tree.parents, tree.tokens), 64)
            assert not turn.dropped_nodes
    np.testing.assert_array_equal(session.beams.nodes, want.nodes)
    np.testing.assert_allclose(session.beams.scores, want.scores, rtol=0, atol=1e-9)


# Items (3|4, 5|6, 7) over hidden states of two numbers: e(3) = (1, 1), e(4) = (-1, 1), token 5
# reads the first number and token 6 the second.  The block adds silu(norm(e)[0]) to the first
# number and takes it from the second.
HAND_PATHS = np.array([[3, 5, 7], [3, 6, 7], [4, 5, 7], [4, 6, 7]])
HAND_VOCABULARY = 8


def model_by_hand(kind: str) -> SearchModel:
    config = LlamaConfig(
        vocab_size=HAND_VOCABULARY,
        hidden_size=2,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        head_dim=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).double()
    with torch.no_grad():
        model.model.embed_tokens.weight[3] = torch.tensor([1.0, 1.0])
        model.model.embed_tokens.weight[4] = torch.tensor([-1.0, 1.0])
        model.lm_head.weight.zero_()
        model.lm_head.weight[5, 0] = model.lm_head.weight[6, 1] = 1.0
    runner = ModelRunner(model, RunnerConfig(dtype="fp64", slots=1, max_prompt_tokens=4))
    return SearchModel.of(runner, ItemTrie.build(HAND_PATHS, list("abcd")), Scoring(kind))


def blocks_by_hand() -> StateBlocks:
    blocks = StateBlocks(2, 1, 1).double().requires_grad_(False)
    block = blocks.blocks[0]
    block.inner.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    block.inner.bias.zero_()
    block.outer.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return blocks


@pytest.mark.parametrize("kind", ["TRIE", "VOCAB"])
def test_a_proposal_by_hand(kind: str) -> None:
    head = RootHead(
        RootHeadConfig(2, HAND_VOCABULARY, 2, 1, "t"), blocks_by_hand(), model_by_hand(kind)
    )
    beams = Beams(1, np.array([0, 1]), np.log([0.6, 0.4]))
    tree = head.propose(torch.tensor([[0.5, 0.5]], dtype=torch.float64), beams, 3, 3, 1)
    up, down = 1 / (1 + math.exp(-1)), -1 / (1 + math.e)  # silu(1), silu(-1)
    others = 0 if kind == "TRIE" else 6  # tokens with a logit of 0
    logits = {(0, 5): 0.5 + up, (0, 6): 0.5 - up, (1, 5): 0.5 + down, (1, 6): 0.5 - down}
    mass = {n: math.exp(logits[n, 5]) + math.exp(logits[n, 6]) + others for n in (0, 1)}
    # .6 * .81, .4 * .63, .4 * .37 under TRIE; .6 * .19 is the fourth and left out.
    order = [(0, 5), (1, 6), (1, 5)]
    assert tree.base_level == 1
    assert list(zip(tree.parents.tolist(), tree.tokens.tolist(), strict=True)) == order
    want = [logits[n, token] - math.log(mass[n]) for n, token in order]
    np.testing.assert_allclose(tree.logprobs, want, atol=1e-5)


def test_new_blocks_leave_the_state_alone() -> None:
    states = StateBlocks(6, 3, 2)(torch.randn(4, 6), torch.randn(4, 2, 6))
    root = torch.randn(4, 6)
    assert states.shape == (4, 2, 6)
    again = StateBlocks(6, 3, 2)(root, torch.randn(4, 2, 6))
    torch.testing.assert_close(again, root[:, None].expand(-1, 2, -1))


def test_steps_equal_the_whole_path() -> None:
    blocks = random_blocks(3, 6, 3)
    root, codes = torch.randn(4, 6).double(), torch.randn(4, 3, 6).double()
    states, state = blocks(root, codes), root
    for level in (1, 2, 3):
        state = blocks.step(level, state, codes[:, level - 1])
        torch.testing.assert_close(states[:, level - 1], state)
    torch.testing.assert_close(blocks(root, codes[:, :2]), states[:, :2])


@pytest.fixture
def saved(tmp_path: FilePath) -> SimpleNamespace:
    """A head on disk, and the model by hand that it fits."""
    config = RootHeadConfig(2, HAND_VOCABULARY, 2, 1, "the target")
    save_root_head(tmp_path, config, blocks_by_hand())
    return SimpleNamespace(directory=tmp_path, model=model_by_hand("TRIE"))


def test_a_saved_head_proposes_the_same(saved: SimpleNamespace) -> None:
    head = RootHead.load(saved.directory, saved.model, "the target")
    config = RootHeadConfig(2, HAND_VOCABULARY, 2, 1, "the target")
    same = RootHead(config, blocks_by_hand(), saved.model)
    assert head.config == config
    hidden = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    for beams in (Beams.root(), Beams(1, np.array([0, 1]), np.zeros(2))):
        one, two = head.propose(hidden, beams, 2, 4, 2), same.propose(hidden, beams, 2, 4, 2)
        np.testing.assert_array_equal(one.tokens, two.tokens)
        np.testing.assert_array_equal(one.parents, two.parents)
        np.testing.assert_allclose(one.logprobs, two.logprobs, rtol=1e-6)


def test_a_head_of_another_target_is_refused(saved: SimpleNamespace) -> None:
    with pytest.raises(RootHeadError, match="trained for target the target, not for another"):
        RootHead.load(saved.directory, saved.model, "another")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "model", "of kind 'model', not 'head'"),
        ("format", 2, "format 2; this release reads 1"),
        ("hidden", 3, "head.safetensors cannot be read"),
        ("bottleneck", 0, "sizes must be positive"),
        ("levels", "2", "sizes must be positive"),
        ("target", 5, "not a fingerprint"),
        ("more", 1, "cannot be read"),
        ("vocab_size", 9, "a vocabulary of 9, the target has 8"),
    ],
)
def test_a_changed_description_is_refused(
    saved: SimpleNamespace, field: str, value: object, message: str
) -> None:
    file = saved.directory / "drafter.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(RootHeadError, match=message):
        RootHead.load(saved.directory, saved.model)


def test_a_head_for_another_width_is_refused(tmp_path: FilePath) -> None:
    config = RootHeadConfig(4, HAND_VOCABULARY, 2, 1, "t")
    save_root_head(tmp_path, config, config.make_blocks())
    with pytest.raises(RootHeadError, match="hidden states of 4, the target has 2"):
        RootHead.load(tmp_path, model_by_hand("TRIE"))


def test_missing_and_damaged_files_are_refused(saved: SimpleNamespace) -> None:
    weights, description = (saved.directory / n for n in ("head.safetensors", "drafter.json"))
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(RootHeadError, match=r"head\.safetensors cannot be read"):
        RootHead.load(saved.directory, saved.model)
    weights.unlink()
    with pytest.raises(RootHeadError, match=r"head\.safetensors cannot be read"):
        RootHead.load(saved.directory, saved.model)
    for text in ("[]", "{", "{}"):
        description.write_text(text)
        with pytest.raises(RootHeadError, match=r"drafter\.json cannot be read"):
            RootHead.load(saved.directory, saved.model)
