import numpy as np
import pytest

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sources.pool import DECAY, PoolDrafter
from specbeam.drafting.tree_scorer import TreeScorer
from specbeam.drafting.verified import VerifiedLevel, VerifiedTree, VerifiedTreeError
from tests.unit.drafting.tries import children, random_trie


def random_tree(rng: np.random.Generator, trie: ItemTrie, share: float = 0.5) -> VerifiedTree:
    levels = {}
    for level in range(1, trie.depth):
        nodes = np.flatnonzero(rng.random(trie.levels[level].num_nodes) < share)
        if len(nodes):
            logprobs = np.log(rng.random(len(nodes))).astype(np.float16).astype(np.float32)
            levels[level] = VerifiedLevel(nodes.astype(np.int64), logprobs)
    return VerifiedTree(levels)


@pytest.mark.parametrize("seed", range(30))
def test_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trie = random_trie(rng)
    tree = random_tree(rng, trie)
    again = VerifiedTree.decode(tree.encode(), trie)
    assert again.levels.keys() == tree.levels.keys()
    for level, part in tree.levels.items():
        np.testing.assert_array_equal(again.levels[level].nodes, part.nodes)
        np.testing.assert_array_equal(again.levels[level].logprobs, part.logprobs)


def test_every_damaged_byte_is_noticed() -> None:
    rng = np.random.default_rng(1)
    trie = random_trie(rng)
    data = random_tree(rng, trie, 0.2).encode()
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(VerifiedTreeError):
            VerifiedTree.decode(bytes(broken), trie)
    for end in range(len(data)):
        with pytest.raises(VerifiedTreeError):
            VerifiedTree.decode(data[:end], trie)


@pytest.mark.parametrize(
    ("nodes", "logprobs"),
    [([3, 2], [-1, -1]), ([2, 2], [-1, -1]), ([10_000], [-1]), ([1], [0.5]), ([1], [np.nan])],
)
def test_lies_with_a_right_checksum_are_refused(nodes: list[int], logprobs: list[float]) -> None:
    trie = random_trie(np.random.default_rng(0))
    level = VerifiedLevel(np.array(nodes), np.array(logprobs, np.float32))
    for number in (0, 1, trie.depth):
        with pytest.raises(VerifiedTreeError):
            VerifiedTree.decode(VerifiedTree({number: level}).encode(), trie)


def test_turns_are_joined_and_strange_nodes_left_out() -> None:
    trie = random_trie(np.random.default_rng(2))
    first = trie.levels[1].tokens_of(np.arange(2)).astype(np.int64)
    root = ScoredTree(
        0, np.array([0, 0, 0]), np.array([*first, 999]), np.array([-1, -2, -3], np.float32)
    )
    below = np.array(list(children(trie, 1, 1)))
    tokens = trie.levels[2].tokens_of(below).astype(np.int64)
    logprobs = -np.arange(1, len(below) + 1, dtype=np.float32)
    beams = Beams(1, np.array([1]), np.zeros(1))
    later = ScoredTree(1, np.zeros(len(below), np.int64), tokens, logprobs)
    tree = VerifiedTree.join(trie, [(Beams.root(), root), (beams, later)])
    np.testing.assert_array_equal(tree.levels[1].nodes, [0, 1])
    np.testing.assert_array_equal(tree.levels[2].nodes, below)
    np.testing.assert_array_equal(tree.levels[2].logprobs, logprobs)
    assert len(tree) == 2 + len(below)
    scores = TreeScorer(trie, tree)(1, np.array([0, 1]))
    assert (scores[0] == -np.inf).all()
    np.testing.assert_array_equal(scores[1][: len(below)], logprobs)


@pytest.mark.parametrize("seed", range(40))
def test_pool_averages_the_trees_that_know_a_node(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trie = random_trie(rng)
    pool = tuple(random_tree(rng, trie, 0.3) for _ in range(int(rng.integers(1, 5))))
    question = DraftQuestion(trie, Beams.root(), 3, pool=pool)
    scorer = PoolDrafter().scorer(question)
    assert scorer is not None
    for level in range(trie.depth - 1):
        nodes = rng.permutation(trie.levels[level].num_nodes)[:6]
        found = scorer(level, nodes)
        for row, node in enumerate(nodes.tolist()):
            for column, child in enumerate(children(trie, level, node)):
                want = _slow(pool, level + 1, child, children(trie, level, node))
                assert found[row, column] == pytest.approx(want, abs=1e-5)


def _slow(pool: tuple[VerifiedTree, ...], level: int, child: int, siblings: range) -> float:
    mass = weight = 0.0
    for rank, tree in enumerate(pool):
        part = tree.levels.get(level)
        listed = (
            {}
            if part is None
            else dict(zip(part.nodes.tolist(), part.logprobs.tolist(), strict=True))
        )
        if any(sibling in listed for sibling in siblings):
            weight += DECAY**rank
            mass += DECAY**rank * np.exp(listed.get(child, -np.inf))
    return float(np.log(mass / weight)) if mass else -np.inf


def test_empty_pool_says_nothing() -> None:
    trie = random_trie(np.random.default_rng(3))
    assert PoolDrafter().scorer(DraftQuestion(trie, Beams.root(), 3)) is None
    nothing = (VerifiedTree({}),)
    assert PoolDrafter().scorer(DraftQuestion(trie, Beams.root(), 3, pool=nothing)) is None
