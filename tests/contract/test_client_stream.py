"""stream_recommend of both Python clients against a servicer that answers as the real one does."""

import asyncio
import json
from contextlib import aclosing, closing
from dataclasses import replace

import pytest

from specbeam.client import (
    ClientError,
    DeadlineError,
    DebugNode,
    DebugRound,
    DebugSpan,
    InvalidRequestError,
    Prefix,
    Recommendation,
    RecommendClient,
    RootPreview,
    SyncRecommendClient,
    TreeEstimate,
    UnavailableError,
    VerifiedLevel,
)
from specbeam.recommend.v1 import recommend_service_pb2 as pb
from specbeam.recommend.v1 import types_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    RecommendServiceServicer,
)
from specbeam.runtime.channel import retry_config
from specbeam.runtime.errors import InvalidRequest, StoreUnavailable, Violation
from tests.contract.serving import serving

PREVIEW = pb.RootPreview(
    beams=[pb.Prefix(tokens=[3], score=-1.5, rank_value=-1.25, num_items=7)],
    guesses=[
        pb.PreviewItem(item_id="a", metadata=types_pb2.ItemMetadata(title="A")),
        pb.PreviewItem(item_id="b"),
    ],
    elapsed_ms=1.5,
)
LEVEL = pb.VerifiedLevel(level=2, beams=[pb.Prefix(tokens=[3, 4], score=-2.0)], elapsed_ms=2.5)
DEBUG = types_pb2.DebugInfo(
    rounds=[
        types_pb2.DebugRound(
            base_level=1,
            level=3,
            step="tree",
            rows=8,
            forward_ms=1.25,
            nodes=[
                types_pb2.DebugNode(
                    tokens=[3, 4],
                    fate=types_pb2.NODE_FATE_ACCEPTED,
                    source="pool",
                    draft_score=0.0,
                    target_score=-2.0,
                ),
                types_pb2.DebugNode(tokens=[3, 5], fate=types_pb2.NODE_FATE_MISSED),
                types_pb2.DebugNode(tokens=[3, 5], fate=9),
            ],
            estimate=types_pb2.TreeEstimate(ms=1.0, plain_ms=2.0, coverage=[0.5]),
        ),
        types_pb2.DebugRound(step="run"),
    ],
    spans=[
        types_pb2.DebugSpan(name="open", start_ns=5, end_ns=7, round=0),
        types_pb2.DebugSpan(name="rank", start_ns=7, end_ns=8),
    ],
)


class FakeService(RecommendServiceServicer):
    """Remembers requests; streams fixed events, then an answer or `fault`."""

    def __init__(self):
        self.requests = []
        self.fault = None
        self.calls = 0
        self.ended = asyncio.Event()

    async def StreamRecommend(self, request, context):
        self.calls += 1
        self.requests.append(request)
        try:
            yield pb.StreamRecommendResponse(preview=PREVIEW)
            yield pb.StreamRecommendResponse()  # of a newer server
            yield pb.StreamRecommendResponse(level=LEVEL)
            if self.fault is not None:
                raise self.fault
            if request.request.user_id == "slow":
                await asyncio.sleep(30)
            yield pb.StreamRecommendResponse(
                answer=pb.RecommendResponse(bundle="b", request_id="r", debug=DEBUG)
            )
        finally:
            self.ended.set()


@pytest.fixture
async def service():
    return FakeService()


@pytest.fixture
async def address(service):
    async with serving(service) as found:
        yield found


@pytest.fixture(params=["async", "sync"])
async def collect(request, address):
    """Read a whole stream with either client, into a list that outlives an error."""
    if request.param == "async":
        async with RecommendClient(address) as client:

            async def collect_async(into, *args, **options):
                async for event in client.stream_recommend(*args, **options):
                    into.append(event)

            yield collect_async
    else:
        with SyncRecommendClient(address) as client:

            def read(into, *args, **options):
                for event in client.stream_recommend(*args, **options):
                    into.append(event)

            async def collect_sync(into, *args, **options):
                await asyncio.to_thread(read, into, *args, **options)

            yield collect_sync


async def test_events_are_typed(collect, service):
    events: list = []
    await collect(events, "u", num_items=5, debug=True)
    preview, level, answer = events
    assert isinstance(preview, RootPreview) and isinstance(level, VerifiedLevel)
    assert preview.beams == (Prefix((3,), -1.5, -1.25, 7),) and preview.elapsed_ms == 1.5
    first, second = preview.guesses
    assert (first.item_id, first.metadata.title, second.metadata) == ("a", "A", None)
    assert (level.level, level.beams[0].tokens, level.elapsed_ms) == (2, (3, 4), 2.5)
    assert isinstance(answer, Recommendation) and answer.request_id == "r"
    (request,) = service.requests
    assert request.request == pb.RecommendRequest(
        user_id="u",
        num_items=5,
        speculation=types_pb2.SPECULATION_AUTO,
        debug=True,
        filter=types_pb2.Filter(),
    )


async def test_details_are_typed(collect):
    events: list = []
    await collect(events, "u")
    debug = events[-1].debug
    nodes = (
        DebugNode((3, 4), "accepted", "pool", 0.0, -2.0),
        DebugNode((3, 5), "missed"),
        DebugNode((3, 5), "9"),
    )
    first = DebugRound(1, 3, "tree", 8, 1.25, nodes, TreeEstimate(1.0, 2.0, (0.5,)))
    assert debug.rounds[0] == first
    assert debug.rounds[1] == replace(
        first, base_level=0, level=0, step="run", rows=0, forward_ms=0.0, nodes=(), estimate=None
    )
    assert debug.spans == (DebugSpan("open", 5, 7, 0), DebugSpan("rank", 7, 8, None))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (InvalidRequest([Violation("num_items", "too large")]), InvalidRequestError),
        (StoreUnavailable(), UnavailableError),
        (ValueError("a bug"), ClientError),
    ],
)
async def test_errors_after_events_are_rebuilt_and_never_retried(collect, service, fault, kind):
    service.fault, events = fault, []
    with pytest.raises(ClientError) as caught:
        await collect(events, "u")
    assert type(caught.value) is kind
    assert len(events) == 2 and service.calls == 1
    assert caught.value.request_id and "a bug" not in str(caught.value)


async def test_slow_answer_is_a_deadline_error(collect):
    with pytest.raises(DeadlineError):
        await collect([], "slow", timeout_s=0.3)


async def test_wrong_option_is_refused_before_the_call(address, service):
    with SyncRecommendClient(address) as client, pytest.raises(ValueError, match="'auto'"):
        client.stream_recommend("u", speculation="maybe")
    async with RecommendClient(address) as client:
        with pytest.raises(TypeError, match="number"):
            client.stream_recommend("u", number=5)
    assert service.calls == 0


async def test_leaving_the_loop_ends_the_call(address, service):
    # The clients stay open: closing one would end its calls, too.
    async with RecommendClient(address) as client:
        async with aclosing(client.stream_recommend("slow")) as events:
            assert isinstance(await anext(events), RootPreview)
        await asyncio.wait_for(service.ended.wait(), 5)
    service.ended.clear()

    def read(client):
        with closing(client.stream_recommend("slow")) as events:
            assert isinstance(next(events), RootPreview)

    with SyncRecommendClient(address) as client:
        await asyncio.to_thread(read, client)
        await asyncio.wait_for(service.ended.wait(), 5)


def test_streams_are_not_in_the_retry_policy():
    service = pb.DESCRIPTOR.services_by_name["RecommendService"]
    config = json.loads(retry_config((service,)))
    methods = {name["method"] for entry in config["methodConfig"] for name in entry["name"]}
    assert "Recommend" in methods and "StreamRecommend" not in methods
