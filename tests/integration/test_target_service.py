"""The target service on a real server: answers, lying drafts, slots, errors."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from specbeam.bundle import BundleError
from specbeam.catalog import FilterCompiler, LeafSpec
from specbeam.engine import ModelRunner, RunnerConfig, SearchSpec, plain_search
from specbeam.model_service.loading import open_search
from specbeam.runtime.channel import create_channel
from specbeam.runtime.server import PortInUse
from specbeam.target.v1alpha1 import session_pb2, target_service_pb2, target_service_pb2_grpc
from target_service.app import build_app, start_app
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

SLOTS = 4
EMPTY = target_service_pb2.GetInfoRequest()


@pytest.fixture(scope="module")
def bundle():
    return tiny_bundle()


@pytest.fixture(scope="module", autouse=True)
def fp64_norms():
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def settings(bundle, tmp_path_factory):
    return TargetSettings(
        bundle=bundle.path,
        port=0,
        dtype="fp64",
        threads=1,
        slots=SLOTS,
        max_rows=64,
        max_beam_width=32,
        max_waiting=20,
        idle_lease_s=1.5,
        warm_up_s=0.3,
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
    stub = target_service_pb2_grpc.TargetServiceStub(channel)

    async def get():
        return await stub.GetInfo(EMPTY, timeout=5)

    return get


@pytest.fixture
async def all_slots_back(info):
    yield
    await until_slots_are_back(info, SLOTS)


@pytest.fixture(scope="module")
def reference(bundle, fp64_norms):
    """Plain searches of a runner of its own; answers are remembered."""
    config = RunnerConfig(
        dtype="fp64", slots=1, max_prompt_tokens=bundle.max_prompt_tokens, max_rows=256
    )
    runner = ModelRunner.load(bundle.target_dir, config)
    model, filters = open_search(bundle, runner), FilterCompiler(bundle.trie)

    def search(prompt, beam_width=10, excluded=()):
        leaves = np.asarray(excluded, np.int64)
        leaf_filter = filters.compile(LeafSpec(excluded_leaves=leaves))
        return plain_search(model, SearchSpec(prompt, beam_width, leaf_filter)).beams

    return search


@pytest.fixture(scope="module")
def same(bundle):
    def check(answer, beams):
        assert answer.finished
        assert answer.beams.level == beams.level == bundle.trie.depth
        assert list(answer.beams.tokens) == beams.paths(bundle.trie).ravel().tolist()
        np.testing.assert_allclose(list(answer.beams.scores), beams.scores, rtol=0, atol=1e-9)

    return check


def random_tree(rng, beams, bundle, count):
    """Mostly nonsense: wild parents and tokens, duplicates, some true children."""
    width = len(beams.scores)
    tokens = rng.integers(0, bundle.manifest.vocab_size + 5, count)
    parents = rng.integers(0, width + count + 3, count)
    honest = rng.random(count) < 0.5
    parents[honest] = rng.integers(0, width + count // 4, honest.sum())
    copies = rng.integers(0, max(count, 1), count // 5)
    tokens[: len(copies)], parents[: len(copies)] = tokens[copies], parents[copies]
    wild = rng.random(count) < 0.05
    parents[wild] = 2**32 - 1
    return tree(beams.level, parents.tolist(), tokens.tolist())


@pytest.mark.parametrize(("width", "seed"), [(1, 0), (5, 1), (10, 2), (32, 3)])
async def test_plain_session_equals_plain_search(
    bundle, channel, reference, same, width, seed, all_slots_back
):
    prompt = random_prompt(bundle, seed)
    async with target_session(channel) as session:
        answer = await session.say(open_message(bundle, prompt, width))
        assert answer.beams.level == 1
        assert answer.stats.passes == 1
        assert answer.stats.prompt_rows == len(prompt)
        assert not answer.finished
        for level in range(1, bundle.trie.depth):
            assert answer.beams.level == level
            answer = await session.say(plain(level))
            assert answer.stats.passes == len(answer.stats.forwards) == 1
            assert answer.stats.accepted_levels == 0
        same(answer, reference(prompt, width))


async def test_messages_written_back_to_back_are_answered_in_order(
    bundle, channel, reference, same, all_slots_back
):
    prompt = random_prompt(bundle, 4)
    async with target_session(channel) as session:
        await session.send(open_message(bundle, prompt))
        await session.send(plain(1, bundle.trie.depth + 5))
        assert (await session.read()).beams.level == 1
        answer = await session.read()
        assert answer.stats.passes == bundle.trie.depth - 1
        assert answer.stats.forward_ms > 0
        same(answer, reference(prompt))


@pytest.mark.parametrize("max_rows", [0, 12, 40])
async def test_run_to_end_equals_plain_search(
    bundle, channel, reference, same, max_rows, all_slots_back
):
    prompt = random_prompt(bundle, 5)
    async with target_session(channel) as session:
        await session.send(open_message(bundle, prompt, max_rows=max_rows))
        await session.read()
        answer = await session.say(to_end(1))
        same(answer, reference(prompt))
        assert answer.stats.rows >= 10
        assert answer.stats.passes <= bundle.trie.depth - 1


async def test_an_honest_tree_saves_passes(bundle, channel, reference, same, all_slots_back):
    prompt = random_prompt(bundle, 6)
    wanted = reference(prompt, 3)
    paths = wanted.paths(bundle.trie)
    async with target_session(channel) as session:
        first = (await session.say(open_message(bundle, prompt, 3))).beams
        tokens = np.reshape(first.tokens, (-1, 1)).ravel().tolist()
        parents, nodes = [], []
        for beam, token in enumerate(tokens):
            level = bundle.trie.levels[1]
            node = int(bundle.trie.find(np.array([[token]]))[0])
            low, high = level.first_child_of(np.array([node, node + 1]))
            for child in bundle.trie.levels[2].tokens_of(np.arange(low, high)).tolist():
                parents.append(beam)
                nodes.append(child)
        answer = await session.say(tree(1, parents, nodes))
        assert answer.stats.accepted_levels >= 1
        assert answer.stats.dropped_nodes == 0
        while not answer.finished:
            answer = await session.say(plain(answer.beams.level))
        same(answer, wanted)
        assert paths.shape == (3, bundle.trie.depth)


@pytest.mark.parametrize("seed", range(30))
async def test_a_lying_tree_never_changes_the_answer(
    bundle, channel, reference, same, seed, all_slots_back
):
    rng = np.random.default_rng(seed)
    prompt, width = random_prompt(bundle, seed % 7), int(rng.choice([1, 4, 10, 32]))
    max_rows = int(rng.choice([0, 1, width, 64, 10_000]))
    async with target_session(channel) as session:
        answer = await session.say(open_message(bundle, prompt, width, max_rows=max_rows))
        dropped = 0
        while not answer.finished:
            count = int(rng.choice([0, 1, 7, 60, 300]))
            level = answer.beams.level
            answer = await session.say(random_tree(rng, answer.beams, bundle, count))
            assert answer.beams.level > level
            dropped += answer.stats.dropped_nodes
            assert answer.stats.rows <= max(64, width * level)
        same(answer, reference(prompt, width))


async def test_a_huge_tree_is_cut_and_counted(bundle, channel, reference, same, all_slots_back):
    prompt = random_prompt(bundle, 1)
    count = 200_000
    async with target_session(channel) as session:
        await session.say(open_message(bundle, prompt))
        answer = await session.say(tree(1, [0] * count, [20] * (count + 7)))
        assert answer.stats.dropped_nodes >= count + 6
        answer = await session.say(to_end(answer.beams.level))
        same(answer, reference(prompt))


async def test_a_tree_for_a_passed_level_is_dropped_without_a_step(
    bundle, channel, reference, same, all_slots_back
):
    prompt = random_prompt(bundle, 2)
    async with target_session(channel) as session:
        await session.say(open_message(bundle, prompt))
        before = await session.say(plain(1))
        late = await session.say(tree(1, [0, 1, 2], [20, 21, 22]))
        assert late.beams == before.beams
        assert (late.stats.passes, late.stats.rows, late.stats.dropped_nodes) == (0, 0, 3)
        same(await session.say(to_end(2)), reference(prompt))


async def test_a_finished_session_answers_where_it_stands(bundle, channel, all_slots_back):
    async with target_session(channel) as session:
        await session.say(open_message(bundle, random_prompt(bundle, 2)))
        end = await session.say(to_end(1))
        for message in (to_end(4), plain(4, 2), tree(4, [0], [5]), plain(1)):
            again = await session.say(message)
            assert again.finished
            assert again.beams == end.beams
            assert again.stats.passes == 0


@pytest.mark.parametrize("level", [1, 2, 3, 4])
async def test_resume_goes_on_from_the_last_beams(
    bundle, channel, reference, same, level, all_slots_back
):
    prompt = random_prompt(bundle, 3)
    async with target_session(channel) as session:
        answer = await session.say(open_message(bundle, prompt))
        while answer.beams.level < level:
            answer = await session.say(plain(answer.beams.level))
    async with target_session(channel) as session:
        resumed = await session.say(open_message(bundle, prompt, resume=answer.beams))
        assert resumed.beams == answer.beams
        assert resumed.finished == (level == bundle.trie.depth)
        rng = np.random.default_rng(level)
        if level < bundle.trie.depth:
            resumed = await session.say(random_tree(rng, resumed.beams, bundle, 40))
        same(await session.say(to_end(resumed.beams.level)), reference(prompt))


async def test_excluded_leaves_are_never_answered(bundle, channel, reference, same, all_slots_back):
    prompt = random_prompt(bundle, 0)
    best = reference(prompt, 10).nodes.tolist()
    async with target_session(channel) as session:
        await session.say(open_message(bundle, prompt, excluded_leaves=best))
        answer = await session.say(to_end(1))
        same(answer, reference(prompt, 10, excluded=best))


async def test_nothing_left_to_answer_is_an_empty_answer(bundle, channel, all_slots_back):
    everything = list(range(bundle.trie.num_leaves))
    async with target_session(channel) as session:
        answer = await session.say(
            open_message(bundle, random_prompt(bundle, 0), excluded_leaves=everything)
        )
        assert answer.finished
        assert not answer.beams.scores


async def test_parallel_sessions_give_their_lone_answers(
    bundle, channel, reference, same, all_slots_back
):
    async def one(seed):
        rng = np.random.default_rng(seed)
        width = int(rng.choice([3, 10, 20]))
        prompt = random_prompt(bundle, seed)
        async with target_session(channel) as session:
            answer = await session.say(open_message(bundle, prompt, width))
            while not answer.finished:
                await asyncio.sleep(float(rng.random()) * 0.01)
                message = random_tree(rng, answer.beams, bundle, 50)
                answer = await session.say(message)
        return answer, prompt, width

    for answer, prompt, width in await asyncio.gather(*(one(seed) for seed in range(16))):
        same(answer, reference(prompt, width))


# ---- slots come back ------------------------------------------------------------------------


async def test_slot_is_held_while_open_and_back_after_a_normal_end(
    bundle, channel, info, all_slots_back
):
    async with target_session(channel) as session:
        await session.say(open_message(bundle, random_prompt(bundle, 0)))
        assert (await info()).slots_free == SLOTS - 1


async def test_slot_is_back_after_a_cancel(bundle, channel, info, all_slots_back):
    verify = target_service_pb2_grpc.TargetServiceStub(channel).Verify
    idle = verify(timeout=5)
    await idle.write(open_message(bundle, random_prompt(bundle, 0)))
    await idle.read()
    assert (await info()).slots_free == SLOTS - 1
    idle.cancel()
    # And while their jobs wait for the device or run there.
    for seed in range(12):
        busy = verify(timeout=5)
        await busy.write(open_message(bundle, random_prompt(bundle, seed)))
        await busy.write(plain(1, 3))
        await asyncio.sleep(0.001 * (seed % 4))
        busy.cancel()


async def test_slot_is_back_after_the_deadline(bundle, channel, all_slots_back):
    async def overrun():
        async with target_session(channel, timeout_s=0.2) as session:
            await session.say(open_message(bundle, random_prompt(bundle, 0)))
            await session.read()

    assert (await failure_of(overrun())).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_idle_session_ends_with_its_lease(bundle, channel, all_slots_back):
    call = target_service_pb2_grpc.TargetServiceStub(channel).Verify(timeout=5)
    await call.write(open_message(bundle, random_prompt(bundle, 0)))
    await call.read()
    start = time.monotonic()
    failure = await failure_of(call.read())
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "LEASE_EXPIRED")
    assert 1.0 < time.monotonic() - start < 4


async def test_slot_is_back_after_the_client_process_is_killed(
    bundle, app, info, tmp_path, all_slots_back
):
    message = tmp_path / "open.bin"
    request = open_message(bundle, random_prompt(bundle, 0))
    message.write_bytes(request.SerializeToString())
    script = textwrap.dedent(
        f"""
        import pathlib, sys, time, grpc
        call = grpc.insecure_channel("127.0.0.1:{app.port}").stream_stream(
            "/specbeam.target.v1alpha1.TargetService/Verify")
        def messages():
            yield pathlib.Path({str(message)!r}).read_bytes()
            time.sleep(60)
        for answer in call(messages(), timeout=60):
            print("open", flush=True)
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    process.kill()
    await process.wait()


async def test_waiting_sessions_get_slots_in_order_or_run_out_of_time(
    bundle, channel, info, all_slots_back
):
    prompt = random_prompt(bundle, 0)
    async with contextlib.AsyncExitStack() as holders:
        held = [await holders.enter_async_context(target_session(channel)) for _ in range(SLOTS)]
        for session in held:
            await session.say(open_message(bundle, prompt))

        async def wait_too_long():
            async with target_session(channel, timeout_s=0.15) as late:
                await late.say(open_message(bundle, prompt))

        failure = await failure_of(wait_too_long())
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        for session in held:
            await session.say(plain(1))
        assert (await info()).slots_free == 0
        waiting = await holders.enter_async_context(target_session(channel))
        await waiting.send(open_message(bundle, prompt))
        await held[0].call.done_writing()
        assert (await waiting.read()).beams.level == 1


async def test_too_many_waiting_sessions_are_refused(bundle, settings, all_slots_back):
    changed = settings.model_copy(update={"slots": 1, "max_waiting": 0})
    app = await start_app(changed)
    try:
        async with create_channel(f"127.0.0.1:{app.port}") as channel:
            async with target_session(channel) as first:
                await first.say(open_message(bundle, random_prompt(bundle, 0)))
                second = target_service_pb2_grpc.TargetServiceStub(channel).Verify(timeout=5)
                await second.write(open_message(bundle, random_prompt(bundle, 0)))
                failure = await failure_of(second.read())
                assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert failure.reason == "OVERLOADED"
                assert failure.retry_after_s
    finally:
        await app.stop()


# ---- errors ---------------------------------------------------------------------------------


async def refused(channel, *messages):
    call = target_service_pb2_grpc.TargetServiceStub(channel).Verify(timeout=5)
    for message in messages:
        await call.write(message)
    for _ in messages[:-1]:
        await call.read()
    return await failure_of(call.read())


def beams(level, tokens, scores):
    return session_pb2.Beams(level=level, tokens=tokens, scores=scores)


BAD_OPENS = {
    "empty prompt": ({"prompt": []}, "open.prompt_tokens"),
    "long prompt": ({"prompt": [1] * 202}, "open.prompt_tokens"),
    "foreign token": ({"prompt": [1, 5000]}, "open.prompt_tokens[1]"),
    "no beams": ({"beam_width": 0}, "open.search.beam_width"),
    "too many beams": ({"beam_width": 33}, "open.search.beam_width"),
    "leaf out of range": ({"excluded_leaves": [1, 100_000]}, "open.search.excluded_leaves"),
    "leaves unsorted": ({"excluded_leaves": [5, 4]}, "open.search.excluded_leaves"),
    "leaf twice": ({"excluded_leaves": [4, 4]}, "open.search.excluded_leaves"),
    "no tenant": ({"tenant": ""}, "open.header.tenant"),
    "long id": ({"request_id": "x" * 65}, "open.header.request_id"),
    "no convention": ({"score_kind": 0}, "open.header.score_kind"),
    "no fingerprint": ({"catalog": ""}, "open.header.fingerprints.catalog"),
    "no bundle": ({"bundle": ""}, "open.header.bundle"),
    "resume too deep": ({"resume": beams(5, [3] * 5, [0.0])}, "open.resume.level"),
    "resume ragged": ({"resume": beams(2, [3, 4, 5], [0.0, 0.0])}, "open.resume.tokens"),
    "resume empty": ({"resume": beams(1, [], [])}, "open.resume.scores"),
    "resume nan": ({"resume": beams(1, [3], [float("nan")])}, "open.resume.scores"),
    "resume unknown": ({"resume": beams(1, [2], [0.0])}, "open.resume.tokens"),
    "resume twice": ({"resume": beams(1, [3, 3], [0.0, 0.0])}, "open.resume.tokens"),
    "resume too wide": (
        {"resume": beams(1, [3, 4], [0.0, 0.0]), "beam_width": 1},
        "open.resume.scores",
    ),
}


@pytest.mark.parametrize("name", BAD_OPENS)
async def test_a_bad_open_names_the_field(bundle, channel, name, all_slots_back):
    changes, field = BAD_OPENS[name]
    arguments = dict(changes)
    prompt = arguments.pop("prompt", [1, 5, 20])
    failure = await refused(channel, open_message(bundle, prompt, **arguments))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in failure.violations] == [field]


async def test_every_violation_is_named(bundle, channel):
    failure = await refused(
        channel, open_message(bundle, [], 0, excluded_leaves=[3, 2, 9999], resume=beams(9, [], []))
    )
    assert {violation.field for violation in failure.violations} == {
        "open.prompt_tokens",
        "open.search.beam_width",
        "open.search.excluded_leaves",
        "open.resume.level",
        "open.resume.scores",
    }


@pytest.mark.parametrize("name", ["model", "prompt", "catalog", "score_kind"])
async def test_another_bundle_behind_the_name_is_refused(bundle, channel, name):
    value = session_pb2.SCORE_KIND_TRIE if name == "score_kind" else "0" * 32
    failure = await refused(channel, open_message(bundle, [1, 5], **{name: value}))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.reason == "FINGERPRINT_MISMATCH"
    assert failure.metadata == {"differing": name}


async def test_an_unknown_bundle_is_not_found(bundle, channel):
    failure = await refused(channel, open_message(bundle, [1], bundle="other"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_BUNDLE")


async def test_turns_out_of_order_are_refused(bundle, channel, all_slots_back):
    begin = open_message(bundle, [1, 5])
    nothing = target_service_pb2.VerifyRequest()
    advance = target_service_pb2.VerifyRequest(advance=target_service_pb2.Advance(base_level=1))
    for messages, field in [
        ([plain(0)], "step"),
        ([nothing], "step"),
        ([begin, begin], "step"),
        ([begin, plain(2)], "advance.base_level"),
        ([begin, tree(2, [0], [5])], "advance.base_level"),
        ([begin, plain(1, 0)], "advance.plain_steps"),
        ([begin, advance], "advance.how"),
    ]:
        failure = await refused(channel, *messages)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in failure.violations] == [field]


async def test_search_is_a_session_in_one_call(bundle, channel, reference, same, all_slots_back):
    stub = target_service_pb2_grpc.TargetServiceStub(channel)
    for seed in range(6):
        prompt = random_prompt(bundle, seed)
        begin = open_message(bundle, prompt, 7).open
        for then in (plain(0, 3).advance, to_end(0).advance):
            request = target_service_pb2.SearchRequest(open=begin, then=then)
            answer = await stub.Search(request, timeout=5)
            same(answer.outcome, reference(prompt, 7))


async def test_search_needs_a_step_that_is_no_tree(bundle, channel, all_slots_back):
    stub = target_service_pb2_grpc.TargetServiceStub(channel)
    begin = open_message(bundle, [1, 5]).open
    for then, field in [
        (None, "then.how"),
        (plain(0, 0).advance, "then.plain_steps"),
        (tree(0, [0], [5]).advance, "then.tree"),
    ]:
        request = target_service_pb2.SearchRequest(open=begin, then=then)
        failure = await failure_of(stub.Search(request, timeout=5))
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in failure.violations] == [field]


async def test_saying_nothing_is_an_empty_session(channel, all_slots_back):
    async with target_session(channel):
        pass


# ---- what is served -------------------------------------------------------------------------


async def test_info_describes_the_bundle(bundle, info, settings):
    said = await info()
    served = said.bundles[0]
    assert served.name == "tiny"
    assert served.fingerprints.model == bundle.manifest.fingerprints.model
    assert served.score_kind == session_pb2.SCORE_KIND_VOCAB
    assert (served.item_length, served.num_items) == (4, 300)
    assert [level.nodes for level in served.levels] == [
        level.num_nodes for level in bundle.trie.levels[:-1]
    ]
    assert served.levels[0].max_children == served.levels[1].nodes
    assert (said.slots, said.device, said.dtype) == (SLOTS, "cpu", "float64")
    assert (said.max_prompt_tokens, said.max_rows, said.max_beam_width) == (201, 64, 32)
    points = [(cost.prefix_tokens, cost.rows) for cost in said.costs]
    assert points
    assert points == sorted(points)
    assert all(cost.ms > 0 for cost in said.costs)
    assert list(settings.cache_dir.glob("costs-*.json"))


async def test_costs_are_reloaded_at_the_next_start(settings, info):
    app = await start_app(settings)
    try:
        async with create_channel(f"127.0.0.1:{app.port}") as channel:
            stub = target_service_pb2_grpc.TargetServiceStub(channel)
            again = await stub.GetInfo(EMPTY, timeout=5)
            assert list(again.costs) == list((await info()).costs)
    finally:
        await app.stop()


async def test_health_follows_the_warm_up(settings):
    app = await build_app(settings)
    release = asyncio.Event()
    warm_up = app.warm_up

    async def slow_warm_up():
        await release.wait()
        await warm_up()

    app.warm_up = slow_warm_up
    starting = asyncio.create_task(app.start())
    name = "specbeam.target.v1alpha1.TargetService"
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(service):
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await stub.Check(request, timeout=5, wait_for_ready=True)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

        assert await status("liveness") == "SERVING"
        assert await status(name) == await status("") == "NOT_SERVING"
        call = target_service_pb2_grpc.TargetServiceStub(channel).Verify(timeout=5)
        assert (await failure_of(call.read())).code is grpc.StatusCode.UNAVAILABLE
        release.set()
        await starting
        assert await status(name) == await status("") == "SERVING"
    await app.stop()


def run_process(*flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "target_service", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


async def test_a_taken_port_is_refused(app, settings):
    with pytest.raises(PortInUse, match="another process"):
        await build_app(settings.model_copy(update={"port": app.port}))


@pytest.mark.slow
async def test_a_wrong_directory_ends_the_process_with_one_line(tmp_path):
    done = await asyncio.to_thread(run_process, "--bundle", str(tmp_path), "--port", "0")
    assert done.returncode == 3
    assert done.stderr.startswith(f"target_service: cannot serve: {tmp_path}: ")
    assert done.stderr.count("\n") == 1


async def test_a_damaged_bundle_is_refused(settings, bundle, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    weights = copy / "target" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="digest"):
        await start_app(settings.model_copy(update={"bundle": copy}))
