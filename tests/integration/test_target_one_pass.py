"""The target service: trees beside the prompt, reported scores, a drafter beside the target."""

import json
import shutil

import grpc
import numpy as np
import pytest

from specbeam.bundle import BundleError, BundleParts, write_bundle
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.drafting.verified import VerifiedTree
from specbeam.engine import BeamSession, ModelRunner, RunnerConfig, SearchSpec, plain_search
from specbeam.engine.own_drafter import OWN_DRAFTERS
from specbeam.model_service.loading import open_search
from specbeam.runtime.channel import create_channel
from specbeam.target.v1alpha1 import session_pb2, target_service_pb2, target_service_pb2_grpc
from target_service.app import start_app
from target_service.model import load_target
from target_service.settings import TargetSettings
from tests.bundles import exact_norms, random_prompt, tiny_bundle
from tests.sessions import (
    failure_of,
    open_message,
    plain,
    target_session,
    to_end,
    tree,
    until_slots_are_back,
)

SLOTS = 2
MAX_ROWS = 64
LOADING = {"device": "cpu", "dtype": "fp64", "slots": 1, "max_rows": 8, "max_beam_width": 4}
EMPTY = target_service_pb2.GetInfoRequest()


class EveryChild:
    """A drafter beside the target: all children of each node, as likely as each other."""

    def __init__(self, trie):
        self.trie = trie
        self.hidden = []

    def propose(self, hidden, beams, levels, max_nodes, width, leaf_filter=None, selection=None):
        self.hidden.append(hidden.clone())
        parents, tokens, logprobs = [], [], []
        frontier = list(enumerate(beams.nodes.tolist()))
        for level in range(beams.level, min(beams.level + levels, self.trie.depth - 1)):
            found = []
            for number, node in frontier:
                first, end = self.trie.levels[level].first_child_of(np.array([node, node + 1]))
                found += [(number, child, end - first) for child in range(first, end)]
            frontier = []
            for number, child, siblings in found[:max_nodes]:
                frontier.append((len(beams) + len(tokens), child))
                parents.append(number)
                tokens.append(int(self.trie.levels[level + 1].tokens_of(np.array([child]))[0]))
                logprobs.append(-np.log(siblings))
        return ScoredTree(
            beams.level, np.array(parents), np.array(tokens), np.array(logprobs, np.float32)
        )


@pytest.fixture(scope="module", autouse=True)
def fp64_norms():
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The tiny bundle with a second drafter, of a kind that lives beside the target."""
    plain_bundle, work = tiny_bundle(), tmp_path_factory.mktemp("own-drafter")
    draft = plain_bundle.drafter_dir("default")
    shutil.copytree(draft, work / "beside")
    (work / "beside" / "drafter.json").write_text(json.dumps({"kind": "every-child"}))
    manifest = plain_bundle.manifest
    parts = BundleParts(
        name=manifest.name,
        trie=plain_bundle.trie,
        template=plain_bundle.template,
        vocab_size=manifest.vocab_size,
        target_dir=plain_bundle.target_dir,
        levels=manifest.levels,
        drafters={"default": draft, "beside": work / "beside"},
        items_file=plain_bundle.path / "catalog.parquet",
        default_beam_width=10,
    )
    return write_bundle(work / "bundle", parts)


@pytest.fixture(scope="module")
def drafters():
    """Every drafter of the registered kind that was opened."""
    opened = []

    def load(directory, search, target):
        assert json.loads((directory / "drafter.json").read_text())["kind"] == "every-child"
        opened.append(EveryChild(search.expansion.trie))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_DRAFTERS, "every-child", load)
        yield opened


@pytest.fixture(scope="module")
def settings(bundle, tmp_path_factory):
    return TargetSettings(
        bundle=bundle.path,
        port=0,
        dtype="fp64",
        threads=1,
        slots=SLOTS,
        max_rows=MAX_ROWS,
        max_beam_width=32,
        warm_up_s=0,
        cache_dir=tmp_path_factory.mktemp("costs"),
        grace_s=0.2,
    )


@pytest.fixture(scope="module")
async def channel(settings, drafters, fp64_norms):
    app = await start_app(settings)
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel
    await app.stop()


@pytest.fixture(scope="module")
def stub(channel):
    return target_service_pb2_grpc.TargetServiceStub(channel)


@pytest.fixture(autouse=True)
async def all_slots_back(stub):
    yield
    await until_slots_are_back(lambda: stub.GetInfo(EMPTY, timeout=5), SLOTS)


@pytest.fixture(scope="module")
def model(bundle, fp64_norms):
    """The target in this process."""
    config = RunnerConfig(
        dtype="fp64", slots=1, max_prompt_tokens=bundle.max_prompt_tokens, max_rows=256
    )
    return open_search(bundle, ModelRunner.load(bundle.target_dir, config))


@pytest.fixture(scope="module")
def same(bundle, model):
    def check(answer, prompt, width=10):
        beams = plain_search(model, SearchSpec(prompt, width)).beams
        assert answer.finished
        assert list(answer.beams.tokens) == beams.paths(bundle.trie).ravel().tolist()
        np.testing.assert_allclose(list(answer.beams.scores), beams.scores, rtol=0, atol=1e-9)

    return check


def tree_of(paths):
    """All prefixes of paths, the last level excepted, as a tree below the root."""
    numbers, parents, tokens = {(): 0}, [], []
    for level in range(1, paths.shape[1]):
        for prefix in dict.fromkeys(map(tuple, paths[:, :level].tolist())):
            parents.append(numbers[prefix[:-1]])
            tokens.append(prefix[-1])
            numbers[prefix] = len(tokens)
    return session_pb2.CandidateTree(parents=parents, tokens=tokens)


def needed_tree(model, prompt, width):
    """The beams of every level of a plain search."""
    session, numbers, parents, tokens = BeamSession(model, width), {(): 0}, [], []
    try:
        session.open(prompt)
        while not session.finished:
            for path in session.beams.paths(model.expansion.trie).tolist():
                parents.append(numbers[tuple(path[:-1])])
                tokens.append(path[-1])
                numbers[tuple(path)] = len(tokens)
            session.plain_step()
    finally:
        session.close()
    return session_pb2.CandidateTree(parents=parents, tokens=tokens)


def in_one_call(bundle, prompt, width, sent, **options):
    begin = open_message(bundle, prompt, width, tree=sent, **options).open
    return target_service_pb2.SearchRequest(open=begin, then=to_end(0).advance)


@pytest.mark.parametrize("width", [1, 5, 10])
async def test_a_right_tree_ends_the_search_in_the_prompts_pass(bundle, stub, model, same, width):
    for seed in range(4):
        prompt = random_prompt(bundle, seed)
        sent = needed_tree(model, prompt, width)
        outcome = (await stub.Search(in_one_call(bundle, prompt, width, sent), timeout=5)).outcome
        same(outcome, prompt, width)
        stats = outcome.stats
        assert (stats.passes, len(stats.forwards)) == (1, 1)
        assert stats.prompt_rows == len(prompt)
        assert len(sent.tokens) <= stats.rows <= MAX_ROWS
        assert (stats.accepted_levels, stats.dropped_nodes) == (bundle.trie.depth - 1, 0)
        assert not outcome.HasField("scored")
        assert not outcome.HasField("drafted")


async def test_a_miss_is_repaired_in_later_passes(bundle, channel, model, same):
    prompt = random_prompt(bundle, 5)
    wanted = plain_search(model, SearchSpec(prompt, 10)).beams.paths(bundle.trie)
    async with target_session(channel) as session:
        sent = tree_of(wanted[:4])
        answer = await session.say(open_message(bundle, prompt, tree=sent))
        assert 1 <= answer.beams.level < bundle.trie.depth
        assert answer.stats.rows >= len(sent.tokens)
        while not answer.finished:
            answer = await session.say(plain(answer.beams.level))
        same(answer, prompt)


@pytest.mark.parametrize("seed", range(20))
async def test_a_lying_tree_never_changes_the_answer(bundle, stub, same, seed):
    rng = np.random.default_rng(seed)
    prompt, width = random_prompt(bundle, seed % 7), int(rng.choice([1, 4, 10, 32]))
    count, max_rows = int(rng.choice([0, 1, 60, 300])), int(rng.choice([0, 1, width, 64, 10_000]))
    tokens = rng.integers(0, bundle.manifest.vocab_size + 5, count)
    first_codes = rng.random(count) < 0.5
    tokens[first_codes] = rng.choice(bundle.trie.level_tokens(1), first_codes.sum())
    parents = rng.integers(0, count + 3, count)
    parents[first_codes] = 0
    parents[rng.random(count) < 0.05] = 2**32 - 1
    sent = session_pb2.CandidateTree(parents=parents.tolist(), tokens=tokens.tolist())
    request = in_one_call(bundle, prompt, width, sent, max_rows=max_rows)
    same((await stub.Search(request, timeout=5)).outcome, prompt, width)


async def test_a_tree_from_another_level_is_dropped_whole(bundle, stub, same):
    prompt = random_prompt(bundle, 1)
    sent = session_pb2.CandidateTree(base_level=1, parents=[0, 0, 1], tokens=[3, 4, 20])
    outcome = (await stub.Search(in_one_call(bundle, prompt, 10, sent), timeout=5)).outcome
    same(outcome, prompt)
    assert outcome.stats.dropped_nodes == 3


async def test_a_huge_tree_is_cut_and_counted(bundle, stub, same):
    prompt, count = random_prompt(bundle, 1), 100_000
    sent = session_pb2.CandidateTree(parents=[0] * count, tokens=[20] * (count + 7))
    outcome = (await stub.Search(in_one_call(bundle, prompt, 10, sent), timeout=5)).outcome
    same(outcome, prompt)
    assert outcome.stats.dropped_nodes == count + 7


async def test_a_tree_cannot_go_with_beams_to_resume(bundle, stub):
    sent = session_pb2.CandidateTree(parents=[0], tokens=[3])
    beams = session_pb2.Beams(level=1, tokens=[3], scores=[-1.0])
    request = in_one_call(bundle, [1, 5], 10, sent, resume=beams)
    failure = await failure_of(stub.Search(request, timeout=5))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in failure.violations] == ["open.tree"]


# ---- what is reported -----------------------------------------------------------------------


def beams_of(message, bundle):
    paths = np.array(message.tokens, np.int64).reshape(len(message.scores), message.level)
    return Beams.from_paths(bundle.trie, paths, np.array(message.scores))


def as_tree(message):
    return ScoredTree(
        message.base_level,
        np.array(message.parents, np.int64),
        np.array(message.tokens, np.int64),
        np.array(message.logprobs, np.float32),
    )


async def test_a_report_holds_the_scores_of_a_plain_search(bundle, channel, model):
    """Each turn's tree hangs from the beams before it; together they are a plain search's."""
    prompt, width, report = random_prompt(bundle, 2), 5, 12
    local, wanted = BeamSession(model, width, report_nodes=report), []
    turn = local.open(prompt)
    while True:
        wanted += list(turn.scored)
        if local.finished:
            break
        turn = local.plain_step()
    local.close()
    begin = open_message(bundle, prompt, width, filters={"report_nodes": report})
    async with target_session(channel) as session:
        answer, before, seen = await session.say(begin), Beams.root(), []
        while True:
            if answer.HasField("scored"):
                seen.append((before, as_tree(answer.scored)))
            if answer.finished:
                break
            before = beams_of(answer.beams, bundle)
            assert len(before) == width
            answer = await session.say(plain(answer.beams.level))
    assert [tree.base_level for _, tree in seen] == list(range(bundle.trie.depth - 1))
    joined = VerifiedTree.join(bundle.trie, seen)
    expected = VerifiedTree.join(bundle.trie, wanted)
    assert list(joined.levels) == list(range(1, bundle.trie.depth))
    for number, level in joined.levels.items():
        assert width <= len(level.nodes) <= report
        np.testing.assert_array_equal(level.nodes, expected.levels[number].nodes)
        np.testing.assert_array_equal(level.logprobs, expected.levels[number].logprobs)


@pytest.mark.parametrize("report", [1, 100_000])
async def test_a_whole_search_reports_every_pass(bundle, stub, model, same, report):
    prompt, width = random_prompt(bundle, 3), 6
    sent = needed_tree(model, prompt, width)
    filters = {"report_nodes": report}
    request = in_one_call(bundle, prompt, width, sent, filters=filters)
    outcome = (await stub.Search(request, timeout=5)).outcome
    same(outcome, prompt, width)
    scored = outcome.scored
    joined = VerifiedTree.join(bundle.trie, [(Beams.root(), as_tree(scored))])
    assert len(joined) == len(scored.tokens)
    for number in range(1, bundle.trie.depth):
        nodes = joined.levels[number].nodes
        assert len(nodes) == width if report == 1 else len(nodes) > width
    # Without the tree: as many passes as levels, and still one tree.
    request = in_one_call(bundle, prompt, width, None, filters=filters, max_rows=1)
    outcome = (await stub.Search(request, timeout=5)).outcome
    again = VerifiedTree.join(bundle.trie, [(Beams.root(), as_tree(outcome.scored))])
    assert list(again.levels) == list(joined.levels)
    for number, level in again.levels.items():
        np.testing.assert_array_equal(level.nodes, joined.levels[number].nodes)
        np.testing.assert_allclose(level.logprobs, joined.levels[number].logprobs, atol=1e-4)


# ---- the drafter beside the target ----------------------------------------------------------


def asking(message, levels=1, max_nodes=0):
    message.open.own_draft.levels = levels
    message.open.own_draft.max_nodes = max_nodes
    return message


async def test_info_names_the_drafter_beside_the_target(stub):
    assert (await stub.GetInfo(EMPTY, timeout=5)).bundles[0].own_drafter == "beside"


async def test_every_answer_that_goes_on_carries_its_proposals(
    bundle, channel, model, drafters, same
):
    prompt = random_prompt(bundle, 4)
    hidden = model.runner.prefill(0, prompt)
    del drafters[-1].hidden[:]
    async with target_session(channel) as session:
        begin = asking(open_message(bundle, prompt), levels=9, max_nodes=40)
        answer, levels = await session.say(begin), []
        while not answer.finished:
            levels.append(answer.beams.level)
            drafted = answer.drafted
            assert answer.HasField("drafted") == (levels[-1] < bundle.trie.depth - 1)
            assert len(drafted.parents) == len(drafted.tokens) == len(drafted.logprobs)
            if drafted.tokens:
                assert drafted.base_level == levels[-1]
                sent = tree(drafted.base_level, drafted.parents[:20], drafted.tokens[:20])
                answer = await session.say(sent)
                assert answer.stats.dropped_nodes == 0
            else:
                answer = await session.say(plain(levels[-1]))
        same(answer, prompt)
    assert levels[0] == 1
    assert len(drafters[-1].hidden) >= 1
    for found in drafters[-1].hidden:
        np.testing.assert_allclose(found.numpy(), hidden.numpy(), rtol=0, atol=1e-12)


async def test_it_gets_the_prompts_state_beside_a_tree_too(bundle, channel, model, drafters):
    prompt = random_prompt(bundle, 6)
    hidden = model.runner.prefill(0, prompt)
    wanted = plain_search(model, SearchSpec(prompt, 10)).beams.paths(bundle.trie)
    del drafters[-1].hidden[:]
    async with target_session(channel) as session:
        begin = asking(open_message(bundle, prompt, tree=tree_of(wanted[:2])), max_nodes=7)
        answer = await session.say(begin)
        assert answer.stats.rows
        assert len(answer.drafted.tokens) == 7
    np.testing.assert_allclose(drafters[-1].hidden[0].numpy(), hidden.numpy(), rtol=0, atol=1e-12)


async def test_nobody_drafts_unasked(bundle, channel, drafters):
    del drafters[-1].hidden[:]
    async with target_session(channel) as session:
        answer = await session.say(open_message(bundle, random_prompt(bundle, 1)))
        assert not answer.HasField("drafted")
    assert not drafters[-1].hidden


async def test_levels_must_be_asked_for(bundle, channel):
    call = target_service_pb2_grpc.TargetServiceStub(channel).Verify(timeout=5)
    await call.write(asking(open_message(bundle, [1, 5]), levels=0))
    failure = await failure_of(call.read())
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in failure.violations] == ["open.own_draft.levels"]


def test_a_bundle_without_such_a_drafter_has_none(bundle, drafters):
    loaded = load_target(tiny_bundle().path, **LOADING)
    assert (loaded.own_drafter, loaded.own_drafter_name) == (None, "")


def test_a_drafter_that_cannot_be_loaded_is_named(bundle, drafters):
    def broken(directory, search, target):
        raise ValueError("made for a hidden size of 7")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_DRAFTERS, "every-child", broken)
        with pytest.raises(BundleError, match="drafters/beside/ cannot be loaded: made for"):
            load_target(bundle.path, **LOADING)
