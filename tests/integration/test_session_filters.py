"""Filters, conventions and items of any length in the sessions of target and draft."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from draft_service.app import start_app as start_draft
from draft_service.settings import DraftSettings
from specbeam.bundle import Bundle
from specbeam.catalog import PAD, FilterCompiler, LeafSpec
from specbeam.runtime.channel import create_channel
from specbeam.runtime.session_tokens import WIRE_PAD, decode_tokens
from specbeam.target.v1alpha1 import session_pb2
from specbeam.target.v1alpha1 import target_service_pb2 as target_pb
from specbeam.target.v1alpha1.target_service_pb2_grpc import TargetServiceStub
from target_service.app import start_app as start_target
from tests.bundles import FIRST_TIME_S, exact_norms, random_prompt, tiny_bundle
from tests.sessions import (
    draft_open,
    draft_session,
    failure_of,
    open_message,
    plain,
    propose,
    target_session,
    to_end,
    tree,
)
from tests.stack import target_settings

ROOT = session_pb2.Beams(level=0, scores=[0.0])
ALL_PARTS: dict[str, Any] = {
    "allowed_leaves": session_pb2.LeafSet(leaves=range(0, 200, 2)),
    "required_tags": [
        session_pb2.TagClause(any_of=["half", "third"]),
        session_pb2.TagClause(any_of=["half", "quarter", "nine"]),
    ],
    "created_after_ms": 1000 * FIRST_TIME_S,
}


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module", params=["VOCAB", "LEVEL", "TRIE"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Items of 2 to 5 tokens, with tags and ages."""
    return tiny_bundle(facts=True, texts=True, item_length=5, score_kind=request.param)


@pytest.fixture(scope="module")
async def target(bundle: Bundle) -> AsyncIterator[grpc.aio.Channel]:
    app = await start_target(target_settings(bundle))
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel
    await app.stop()


@pytest.fixture(scope="module")
async def draft(bundle: Bundle) -> AsyncIterator[grpc.aio.Channel]:
    app = await start_draft(
        DraftSettings(bundle=bundle.path, port=0, dtype="fp64", threads=1, warm_up_s=0, grace_s=0)
    )
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel
    await app.stop()


def parts(*names: str) -> dict[str, Any]:
    return {name: ALL_PARTS[name] for name in names}


async def answer_of(
    bundle: Bundle, channel: grpc.aio.Channel, prompt: np.ndarray, **changes: Any
) -> target_pb.VerifyResponse:
    """The answer of a plain search in one call."""
    request = target_pb.SearchRequest(
        open=open_message(bundle, prompt, **changes).open,
        then=target_pb.Advance(plain_steps=bundle.trie.depth),
    )
    answer = await TargetServiceStub(channel).Search(request, timeout=10)
    return answer.outcome


def same(answer: target_pb.VerifyResponse, expected: target_pb.VerifyResponse) -> None:
    assert answer.finished and expected.finished
    assert answer.beams.tokens == expected.beams.tokens
    assert list(answer.beams.scores) == pytest.approx(list(expected.beams.scores), abs=1e-9)


def leaves_of(bundle: Bundle, beams: session_pb2.Beams) -> np.ndarray:
    paths = decode_tokens(beams.tokens).reshape(len(beams.scores), beams.level)
    return bundle.trie.find(paths)


def allowed_leaves(bundle: Bundle, **fields: Any) -> set[int]:
    """Leaves with an item that passes, asked item by item."""
    trie = bundle.trie
    allowed = set()
    for item, leaf in enumerate(trie.leaves_of(np.arange(trie.num_items)).tolist()):
        passes = all(
            any(item in trie.tagged_items(name) for name in clause.any_of)
            for clause in fields.get("required_tags", ())
        )
        if "created_after_ms" in fields:
            passes = passes and trie.created_ms(np.array([item]))[0] >= fields["created_after_ms"]
        if "allowed_leaves" in fields:
            passes = passes and leaf in fields["allowed_leaves"].leaves
        if passes:
            allowed.add(leaf)
    return allowed


@pytest.mark.parametrize("names", [[name] for name in ALL_PARTS] + [list(ALL_PARTS)])
async def test_only_allowed_leaves_are_answered(
    bundle: Bundle, target: grpc.aio.Channel, names: list[str]
) -> None:
    filters = parts(*names)
    bound = -(-filters.get("created_after_ms", 0) // 3_600_000) * 3_600_000
    expected = allowed_leaves(bundle, **filters | ({"created_after_ms": bound} if bound else {}))
    for seed in range(4):
        prompt = random_prompt(bundle, seed)
        answer = await answer_of(bundle, target, prompt, beam_width=10, filters=filters)
        found = leaves_of(bundle, answer.beams)
        assert len(found) == min(10, len(expected))
        assert set(found.tolist()) <= expected
        every = await answer_of(
            bundle, target, prompt, beam_width=len(expected) + 1, filters=filters
        )
        assert set(leaves_of(bundle, every.beams).tolist()) == expected


async def test_an_empty_set_allows_nothing(bundle: Bundle, target: grpc.aio.Channel) -> None:
    nothing = {"allowed_leaves": session_pb2.LeafSet()}
    answer = await answer_of(bundle, target, random_prompt(bundle, 0), filters=nothing)
    assert answer.finished and not answer.beams.scores
    async with target_session(target) as session:
        answer = await session.say(open_message(bundle, [1], filters=nothing))
        assert answer.finished and not answer.beams.scores


@pytest.mark.parametrize("names", [[], list(ALL_PARTS)[1:], list(ALL_PARTS)])
@pytest.mark.parametrize("seed", range(3))
async def test_every_way_through_a_session_gives_one_answer(
    bundle: Bundle, target: grpc.aio.Channel, names: list[str], seed: int
) -> None:
    filters, prompt = parts(*names), random_prompt(bundle, seed)
    expected = await answer_of(bundle, target, prompt, filters=filters)
    begin = open_message(bundle, prompt, filters=filters)
    async with target_session(target) as session:
        answer = await session.say(begin)
        stages = [answer.beams]
        while not answer.finished:
            answer = await session.say(plain(answer.beams.level))
            stages.append(answer.beams)
        same(answer, expected)
    async with target_session(target) as session:
        first = await session.say(begin)
        same(await session.say(to_end(first.beams.level)), expected)
    for stage in stages:
        async with target_session(target) as session:
            resumed = await session.say(open_message(bundle, prompt, filters=filters, resume=stage))
            assert resumed.beams == stage
            same(await session.say(to_end(stage.level)), expected)


@pytest.mark.parametrize("seed", range(4))
async def test_lying_trees_of_any_length_never_change_the_answer(
    bundle: Bundle, target: grpc.aio.Channel, seed: int
) -> None:
    filters = parts("required_tags")
    rng, prompt = np.random.default_rng(seed), random_prompt(bundle, seed)
    expected = await answer_of(bundle, target, prompt, filters=filters)
    async with target_session(target) as session:
        answer = await session.say(open_message(bundle, prompt, filters=filters))
        while not answer.finished:
            parents = rng.integers(0, len(answer.beams.scores) + 30, 60)
            tokens = rng.integers(0, bundle.manifest.vocab_size + 3, 60)
            tokens[rng.random(60) < 0.3] = WIRE_PAD
            answer = await session.say(tree(answer.beams.level, parents.tolist(), tokens.tolist()))
        same(answer, expected)


async def test_short_items_travel_padded(bundle: Bundle, target: grpc.aio.Channel) -> None:
    answer = await answer_of(bundle, target, random_prompt(bundle, 1), beam_width=100)
    paths = np.array(answer.beams.tokens).reshape(-1, answer.beams.level)
    assert answer.beams.level == bundle.trie.depth
    assert (paths == WIRE_PAD).any() and (paths[:, -1] != WIRE_PAD).any()
    assert (leaves_of(bundle, answer.beams) >= 0).all()


@pytest.mark.parametrize("names", [[], ["required_tags"], list(ALL_PARTS)])
async def test_proposals_keep_to_the_filter(
    bundle: Bundle, draft: grpc.aio.Channel, names: list[str]
) -> None:
    filters, trie = parts(*names), bundle.trie
    bound = 3_600_000 * -(-ALL_PARTS["created_after_ms"] // 3_600_000)
    spec = LeafSpec(
        allowed_leaves=np.arange(0, 200, 2) if "allowed_leaves" in names else None,
        required_tags=tuple(tuple(c.any_of) for c in filters.get("required_tags", ())),
        created_after_ms=bound if "created_after_ms" in names else None,
    )
    leaf_filter = FilterCompiler(trie).compile(spec)
    padded = 0
    async with draft_session(draft) as session:
        await session.say(draft_open(bundle, random_prompt(bundle, 2), 20, filters=filters))
        levels = await session.levels(propose(ROOT, trie.depth, 60))
    nodes = np.zeros(1, np.int64)
    before = 0
    for drafted in levels:
        parents = np.array(drafted.parents, np.int64) - before
        tokens = decode_tokens(drafted.tokens)
        before += len(nodes)
        nodes = trie.child(drafted.level - 1, nodes[parents], tokens)
        assert (nodes >= 0).all()
        padded += int((tokens == PAD).sum())
        if leaf_filter is not None:
            assert leaf_filter.alive(trie, drafted.level, nodes).all()
    assert padded or names


BROKEN: list[tuple[dict[str, Any], list[str]]] = [
    ({"excluded_leaves": [3, 2]}, ["excluded_leaves"]),
    ({"allowed_leaves": session_pb2.LeafSet(leaves=[3, 2])}, ["allowed_leaves.leaves"]),
    ({"allowed_leaves": session_pb2.LeafSet(leaves=[2, 2])}, ["allowed_leaves.leaves"]),
    ({"allowed_leaves": session_pb2.LeafSet(leaves=[2**31])}, ["allowed_leaves.leaves"]),
    ({"allowed_leaves": session_pb2.LeafSet(leaves=[WIRE_PAD])}, ["allowed_leaves.leaves"]),
    ({"required_tags": [session_pb2.TagClause()]}, ["required_tags[0].any_of"]),
    (
        {"required_tags": [session_pb2.TagClause(any_of=["half"] * 65)]},
        ["required_tags[0].any_of"],
    ),
    ({"required_tags": [session_pb2.TagClause(any_of=["half"])] * 65}, ["required_tags"]),
    (
        {"required_tags": [session_pb2.TagClause(any_of=["half", "nope", ""])]},
        ["required_tags[0].any_of[1]", "required_tags[0].any_of[2]"],
    ),
    ({"created_after_ms": -1}, ["created_after_ms"]),
    ({"created_after_ms": 2**63 - 1}, ["created_after_ms"]),
]


@pytest.mark.parametrize(("filters", "fields"), BROKEN)
async def test_a_hostile_orchestrator_is_refused(
    bundle: Bundle,
    target: grpc.aio.Channel,
    draft: grpc.aio.Channel,
    filters: dict[str, Any],
    fields: list[str],
) -> None:
    async def refused(session_of: Any, channel: grpc.aio.Channel, message: Any) -> None:
        async with session_of(channel) as session:
            await session.say(message)

    for call in (
        refused(target_session, target, open_message(bundle, [1], filters=filters)),
        refused(draft_session, draft, draft_open(bundle, [1], filters=filters)),
        answer_of(bundle, target, np.ones(1, np.int64), filters=filters),
    ):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        found = [violation.field for violation in failure.violations]
        assert found == [f"open.search.{field}" for field in fields]
        if "any_of[1]" in found[0]:
            assert "'nope'" in failure.violations[0].description


async def test_another_catalogue_means_another_filter_for_the_draft(
    bundle: Bundle, draft: grpc.aio.Channel
) -> None:
    filters = {"required_tags": [session_pb2.TagClause(any_of=["nope"])]}
    async with draft_session(draft) as session:
        await session.say(draft_open(bundle, [1], filters=filters, catalog="other"))
        assert (await session.levels(propose(ROOT)))[0].tokens


async def test_another_convention_is_refused(bundle: Bundle, target: grpc.aio.Channel) -> None:
    for kind in ("VOCAB", "LEVEL", "TRIE"):
        number = session_pb2.ScoreKind.Value(f"SCORE_KIND_{kind}")
        call = answer_of(bundle, target, np.ones(1, np.int64), score_kind=number)
        if kind == bundle.manifest.score_kind:
            assert (await call).finished
            continue
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
        assert failure.metadata["differing"] == "score_kind"
