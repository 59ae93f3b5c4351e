"""The draft service on a real server: proposals, numbering, slots, tolerance, errors."""

import asyncio

import grpc
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from draft_service.app import build_app, start_app
from draft_service.settings import DraftSettings
from specbeam.bundle import BundleError
from specbeam.catalog import FilterCompiler, LeafSpec
from specbeam.decoding.beams import Beams
from specbeam.decoding.tree import CandidateTree, resolve_tree
from specbeam.draft.v1alpha1 import draft_service_pb2, draft_service_pb2_grpc
from specbeam.engine import DraftSession, ModelRunner, RunnerConfig
from specbeam.engine.search import join_levels
from specbeam.model_service.loading import open_search
from specbeam.runtime.channel import create_channel
from specbeam.runtime.server import PortInUse
from specbeam.target.v1alpha1 import session_pb2
from tests.bundles import exact_norms, random_prompt, tiny_bundle
from tests.sessions import (
    draft_open,
    draft_session,
    failure_of,
    open_message,
    propose,
    until_slots_are_back,
)

SLOTS = 3
EMPTY = draft_service_pb2.GetInfoRequest()
ROOT = session_pb2.Beams(level=0, scores=[0.0])


@pytest.fixture(scope="module")
def bundle():
    return tiny_bundle()


@pytest.fixture(scope="module", autouse=True)
def fp64_norms():
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def settings(bundle, tmp_path_factory):
    return DraftSettings(
        bundle=bundle.path,
        port=0,
        dtype="fp64",
        slots=SLOTS,
        max_nodes=60,
        max_beam_width=32,
        idle_lease_s=1.5,
        warm_up_s=0.2,
        cache_dir=tmp_path_factory.mktemp("costs"),
        grace_s=0.2,
    )


@pytest.fixture(scope="module")
async def app(settings, fp64_norms):
    app = await start_app(settings)
    yield app
    await app.stop()


@pytest.fixture(scope="module")
async def channel(app):
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def info(channel):
    stub = draft_service_pb2_grpc.DraftServiceStub(channel)

    async def get():
        return await stub.GetInfo(EMPTY, timeout=5)

    return get


@pytest.fixture(autouse=True)
async def all_slots_back(info):
    yield
    await until_slots_are_back(info, SLOTS)


@pytest.fixture(scope="module")
def reference(bundle, fp64_norms):
    """The engine's own drafting, joined into one tree."""
    config = RunnerConfig(
        dtype="fp64", slots=1, max_prompt_tokens=bundle.max_prompt_tokens, max_rows=2000
    )
    runner = ModelRunner.load(bundle.drafter_dir("default"), config)
    model, filters = open_search(bundle, runner), FilterCompiler(bundle.trie)

    def draft(prompt, beams, levels, max_nodes, beam_width=10, excluded=()):
        leaves = np.asarray(excluded, np.int64)
        leaf_filter = filters.compile(LeafSpec(excluded_leaves=leaves))
        session = DraftSession(model, beam_width, leaf_filter)
        try:
            session.open(prompt)
            return join_levels(beams, list(session.propose(beams, levels, max_nodes)))
        finally:
            session.close()

    return draft


def wire(beams, bundle):
    tokens = beams.paths(bundle.trie).ravel().tolist()
    return session_pb2.Beams(level=beams.level, tokens=tokens, scores=beams.scores.tolist())


def some_beams(bundle, level, count, seed=0):
    rng = np.random.default_rng(seed)
    nodes = np.sort(rng.choice(bundle.trie.levels[level].num_nodes, count, replace=False))
    return Beams(level, nodes.astype(np.int64), -rng.random(count))


def joined(levels):
    parents = [parent for level in levels for parent in level.parents]
    tokens = [token for level in levels for token in level.tokens]
    return parents, tokens


@pytest.mark.parametrize(
    ("level", "levels", "max_nodes"), [(0, 3, 20), (1, 1, 40), (1, 2, 0), (2, 1, 15), (1, 9, 60)]
)
async def test_a_proposal_is_the_drafters_own(bundle, channel, reference, level, levels, max_nodes):
    prompt = random_prompt(bundle, level)
    beams = some_beams(bundle, level, 8) if level else Beams.root()
    async with draft_session(channel) as session:
        ready = (await session.say(draft_open(bundle, prompt))).ready
        assert (ready.stats.passes, ready.stats.rows) == (1, len(prompt))
        drafted = await session.levels(propose(wire(beams, bundle), levels, max_nodes))
    wanted = reference(prompt, beams, levels, max_nodes or 10)
    assert joined(drafted) == (wanted.parents.tolist(), wanted.tokens.tolist())
    deepest = min(level + levels, bundle.trie.depth - 1)
    assert [entry.level for entry in drafted] == list(range(level + 1, deepest + 1))
    assert [entry.last for entry in drafted] == [False] * (len(drafted) - 1) + [True]
    assert all(entry.base_level == level for entry in drafted)
    assert all(entry.stats.passes == len(entry.stats.forwards) for entry in drafted)


def slow_logprobs(bundle, prompt, paths):
    """Log-probability of the last token of each path, from whole forwards of the checkpoint."""
    model = AutoModelForCausalLM.from_pretrained(
        str(bundle.drafter_dir("default")), dtype=torch.float64
    )
    found = []
    with torch.inference_mode():
        for path in paths:
            logits = model(torch.tensor([[*prompt.tolist(), *path[:-1]]])).logits[0, -1]
            found.append(float(torch.log_softmax(logits, -1)[path[-1]]))
    return found


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_every_node_has_its_log_probability(bundle, channel, level):
    prompt = random_prompt(bundle, level)
    beams = some_beams(bundle, level, 6) if level else Beams.root()
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, prompt))
        drafted = await session.levels(propose(wire(beams, bundle), 2, 15))
    parents, tokens = joined(drafted)
    logprobs = [logprob for entry in drafted for logprob in entry.logprobs]
    assert len(drafted) == min(2, bundle.trie.depth - 1 - level)
    assert all(len(entry.logprobs) == len(entry.tokens) > 0 for entry in drafted)
    paths = [tuple(path) for path in beams.paths(bundle.trie).tolist()]
    for parent, token in zip(parents, tokens, strict=True):
        paths.append((*paths[parent], token))
    wanted = slow_logprobs(bundle, prompt, paths[len(beams) :])
    np.testing.assert_allclose(logprobs, wanted, rtol=0, atol=1e-5)


async def test_every_node_resolves_at_the_target(bundle, channel):
    beams = some_beams(bundle, 1, 6, seed=3)
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, random_prompt(bundle, 3)))
        parents, tokens = joined(await session.levels(propose(wire(beams, bundle), 2, 30)))
    tree = CandidateTree(1, np.asarray(parents), np.asarray(tokens))
    assert len(tree) > 30
    assert resolve_tree(bundle.trie, beams, tree).dropped == 0


async def test_a_session_may_be_asked_again(bundle, channel, reference):
    prompt = random_prompt(bundle, 5)
    first, second = some_beams(bundle, 1, 6, seed=1), some_beams(bundle, 2, 9, seed=2)
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, prompt))
        for beams in (first, second, first):
            drafted = await session.levels(propose(wire(beams, bundle), 2, 25))
            wanted = reference(prompt, beams, 2, 25)
            assert joined(drafted) == (wanted.parents.tolist(), wanted.tokens.tolist())


async def test_beams_outside_the_drafters_trie_are_skipped(bundle, channel, reference):
    prompt, beams = random_prompt(bundle, 6), some_beams(bundle, 1, 4, seed=4)
    paths = beams.paths(bundle.trie).ravel().tolist()
    foreign = session_pb2.Beams(
        level=1, tokens=[1, *paths, 2, 99], scores=[-1.0, *beams.scores, -1.0, -2.0]
    )
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, prompt))
        drafted = await session.levels(propose(foreign, 2, 20))
        only = session_pb2.Beams(level=2, tokens=[1, 1], scores=[0.0])
        nothing = await session.levels(propose(only, 1, 20))
    wanted = reference(prompt, beams, 2, 20)
    # Beams 1..4 of seven are known: 0 -> 1, and drafted nodes start at 7 instead of 4.
    numbers = np.where(wanted.parents < 4, wanted.parents + 1, wanted.parents + 3)
    assert joined(drafted) == (numbers.tolist(), wanted.tokens.tolist())
    assert len(nothing) == 1
    assert nothing[0].last
    assert not nothing[0].tokens


async def test_the_last_level_is_never_drafted(bundle, channel):
    beams = some_beams(bundle, bundle.trie.depth - 1, 5)
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, random_prompt(bundle, 0)))
        drafted = await session.levels(propose(wire(beams, bundle), 3, 20))
    assert [(entry.last, len(entry.tokens)) for entry in drafted] == [(True, 0)]


async def test_excluded_leaves_are_not_proposed(bundle, channel, reference):
    prompt, beams = random_prompt(bundle, 7), some_beams(bundle, 1, 5)
    excluded = list(range(0, bundle.trie.num_leaves, 2))
    async with draft_session(channel) as session:
        await session.say(draft_open(bundle, prompt, excluded_leaves=excluded))
        drafted = await session.levels(propose(wire(beams, bundle), 2, 25))
    wanted = reference(prompt, beams, 2, 25, excluded=excluded)
    assert joined(drafted) == (wanted.parents.tolist(), wanted.tokens.tolist())


async def test_another_catalogue_only_costs_acceptance(bundle, channel, reference):
    prompt, beams = random_prompt(bundle, 8), some_beams(bundle, 1, 5)
    async with draft_session(channel) as session:
        # Leaf numbers of another catalogue mean nothing here, not even out of range.
        begin = draft_open(bundle, prompt, excluded_leaves=[1, 10**6], catalog="0" * 32)
        await session.say(begin)
        drafted = await session.levels(propose(wire(beams, bundle), 1, 25))
    wanted = reference(prompt, beams, 1, 25)
    assert joined(drafted) == (wanted.parents.tolist(), wanted.tokens.tolist())


async def test_parallel_sessions_give_their_lone_answers(bundle, channel, reference):
    async def one(seed):
        prompt, beams = random_prompt(bundle, seed), some_beams(bundle, 1, 6, seed)
        async with draft_session(channel) as session:
            await session.say(draft_open(bundle, prompt))
            drafted = await session.levels(propose(wire(beams, bundle), 2, 25))
        return joined(drafted), reference(prompt, beams, 2, 25)

    for found, wanted in await asyncio.gather(*(one(seed) for seed in range(10))):
        assert found == (wanted.parents.tolist(), wanted.tokens.tolist())


async def test_slot_is_back_after_cancel_and_lease(bundle, channel, info):
    draft = draft_service_pb2_grpc.DraftServiceStub(channel).Draft
    begin = draft_open(bundle, random_prompt(bundle, 0))
    for pause_s in (0.0, 0.001, 0.003):
        call = draft(timeout=5)
        await call.write(begin)
        await call.write(propose(ROOT, 3, 50))
        await asyncio.sleep(pause_s)
        call.cancel()
    call = draft(timeout=5)
    await call.write(begin)
    await call.read()
    assert (await info()).slots_free <= SLOTS - 1
    failure = await failure_of(call.read())
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "LEASE_EXPIRED")


async def refused(channel, *messages):
    call = draft_service_pb2_grpc.DraftServiceStub(channel).Draft(timeout=5)
    for message in messages:
        await call.write(message)
    for _ in messages[:-1]:
        await call.read()
    return await failure_of(call.read())


@pytest.mark.parametrize("differing", ["model", "prompt"])
async def test_another_prompt_template_or_target_is_refused(bundle, channel, differing):
    failure = await refused(channel, draft_open(bundle, [1, 5], **{differing: "0" * 32}))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (failure.reason, failure.metadata) == ("FINGERPRINT_MISMATCH", {"differing": differing})


async def test_an_unknown_bundle_is_not_found(bundle, channel):
    failure = await refused(channel, draft_open(bundle, [1], bundle="other"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_BUNDLE")


async def test_bad_messages_name_the_field(bundle, channel):
    begin = draft_open(bundle, [1, 5])
    ragged = session_pb2.Beams(level=2, tokens=[3, 4, 5], scores=[0.0, 0.0])
    wide = session_pb2.Beams(level=1, tokens=[3] * 11, scores=[0.0] * 11)
    for messages, field in [
        ([propose(ROOT)], "step"),
        ([begin, begin], "step"),
        ([draft_open(bundle, [])], "open.prompt_tokens"),
        ([draft_open(bundle, [1, 999])], "open.prompt_tokens[1]"),
        ([draft_open(bundle, [1], beam_width=0)], "open.search.beam_width"),
        ([draft_open(bundle, [1], excluded_leaves=[2, 1])], "open.search.excluded_leaves"),
        ([draft_open(bundle, [1], tenant="")], "open.header.tenant"),
        ([begin, propose(ROOT, 0)], "propose.levels"),
        ([begin, propose(ragged)], "propose.beams.tokens"),
        ([begin, propose(wide)], "propose.beams.scores"),
    ]:
        failure = await refused(channel, *messages)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in failure.violations] == [field]


async def test_info_describes_the_drafter(bundle, info):
    said = await info()
    served = said.bundles[0]
    assert (served.name, served.drafter, served.kind) == ("tiny", "default", "model")
    assert served.fingerprints.model == bundle.manifest.fingerprints.model
    assert (said.slots, said.max_nodes, said.dtype) == (SLOTS, 60, "float64")
    assert said.costs


async def test_what_cannot_be_served_is_said_at_start(app, settings):
    with pytest.raises(BundleError, match="it has none"):
        await start_app(settings.model_copy(update={"bundle": tiny_bundle(drafter=False).path}))
    with pytest.raises(BundleError, match="it has default"):
        await start_app(settings.model_copy(update={"drafter": "other"}))
    with pytest.raises(PortInUse):
        await build_app(settings.model_copy(update={"port": app.port}))


def test_messages_of_both_services_agree_on_the_header(bundle):
    assert open_message(bundle, [1]).open.header == draft_open(bundle, [1]).open.header
