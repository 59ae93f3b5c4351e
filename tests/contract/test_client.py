"""Both Python clients against a servicer that answers as the real one does."""

import asyncio
import inspect
import textwrap
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

import specbeam.client
from specbeam.client import (
    ClientError,
    DeadlineError,
    Interaction,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RecommendClient,
    SyncRecommendClient,
    TagInfo,
    UnavailableError,
    Violation,
)
from specbeam.recommend.v1 import recommend_service_pb2 as pb
from specbeam.recommend.v1 import types_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    RecommendServiceServicer,
)
from specbeam.runtime.errors import (
    InvalidRequest,
    Overloaded,
    StoreUnavailable,
    UnknownBundle,
)
from tests.contract.serving import serving


class FakeService(RecommendServiceServicer):
    """Remembers requests; answers fixed data, or raises `fault`."""

    def __init__(self):
        self.requests = []
        self.fault = None

    async def _note(self, request):
        self.requests.append(request)
        if self.fault is not None:
            raise self.fault

    async def Recommend(self, request, context):
        await self._note(request)
        if request.user_id == "slow":
            await asyncio.sleep(30)
        item = types_pb2.RecommendedItem(
            item_id="i",
            score=-1.25,
            score_kind=types_pb2.SCORE_KIND_VOCAB,
            rank_value=-1.0,
            tokens=[3, 260],
            metadata=types_pb2.ItemMetadata(title="I", topics=["a", "b"], popularity=7),
        )
        return pb.RecommendResponse(
            items=[item],
            mode=types_pb2.MODE_EXACT_TOPK,
            degraded=[types_pb2.DEGRADED_FLAG_NO_DRAFT, 99],
            fingerprints=types_pb2.Fingerprints(model="m", prompt="p", catalog="c"),
            exhausted=True,
            work=types_pb2.Work(passes=4, rows=40, flow=types_pb2.FLOW_PLAIN),
            timings=types_pb2.Timings(total_ms=1.5),
            debug=types_pb2.DebugInfo(
                prompt_token_ids=[1, 5],
                forwards=[types_pb2.ForwardInterval(service="target", start_ns=1, end_ns=2)],
            ),
            bundle="b",
            request_id="r",
        )

    async def RecordInteractions(self, request, context):
        await self._note(request)
        return pb.RecordInteractionsResponse(stored=1, duplicates=2, total=3)

    async def GetHistory(self, request, context):
        await self._note(request)
        event = types_pb2.Interaction(item_id="i", event_id="e", time_ms=5, type="view")
        return pb.GetHistoryResponse(events=[event], total=9)

    async def DeleteUser(self, request, context):
        await self._note(request)
        return pb.DeleteUserResponse(deleted=True)

    async def GetInfo(self, request, context):
        await self._note(request)
        bundle = pb.BundleInfo(
            name="b",
            score_kind=types_pb2.SCORE_KIND_TRIE,
            num_items=5,
            tags=[pb.TagInfo(name="fresh", num_items=3)],
            freshness_bucket_ms=3_600_000,
        )
        limits = pb.Limits(max_num_items=100, max_allowed_items=20, max_tag_clauses=4)
        return pb.GetInfoResponse(bundles=[bundle], default_bundle="b", limits=limits)


@pytest.fixture
async def service():
    return FakeService()


@pytest.fixture
async def address(service):
    async with serving(service) as found:
        yield found


@pytest.fixture(params=["async", "sync"])
async def call(request, address):
    """Call a method of either client by name."""
    if request.param == "async":
        async with RecommendClient(address) as client:

            async def call_async(method, *args, **options):
                return await getattr(client, method)(*args, **options)

            yield call_async
    else:
        with SyncRecommendClient(address) as client:

            async def call_sync(method, *args, **options):
                return await asyncio.to_thread(getattr(client, method), *args, **options)

            yield call_sync


async def test_recommendation_is_typed(call):
    answer = await call("recommend", "u")
    (item,) = answer.items
    assert (item.item_id, item.score, item.rank_value, item.tokens) == ("i", -1.25, -1.0, (3, 260))
    assert item.score_kind == "vocab"
    assert (item.metadata.title, item.metadata.topics) == ("I", ("a", "b"))
    assert item.metadata.created_at_ms is None
    assert answer.mode == "exact_topk"
    assert answer.degraded == ("no_draft", "99")
    assert answer.fingerprints.catalog == "c"
    assert answer.exhausted
    assert (answer.work.passes, answer.work.rows, answer.work.flow) == (4, 40, "plain")
    assert answer.timings.total_ms == 1.5
    assert answer.debug.prompt_token_ids == (1, 5)
    assert answer.debug.forwards[0].service == "target"
    assert (answer.bundle, answer.request_id) == ("b", "r")


async def test_options_reach_the_request(call, service):
    await call(
        "recommend",
        "u",
        events=[Interaction("i", "e", 3, "view")],
        num_items=5,
        beam_width=8,
        bundle="b",
        speculation="off",
        allowed_degradations=["no_history"],
        max_rows=99,
        exclude_history=False,
        exclude_item_ids=["x"],
        include_metadata=True,
        debug=True,
    )
    (request,) = service.requests
    assert request == pb.RecommendRequest(
        bundle="b",
        user_id="u",
        events=[types_pb2.Interaction(item_id="i", event_id="e", time_ms=3, type="view")],
        num_items=5,
        beam_width=8,
        speculation=types_pb2.SPECULATION_OFF,
        allowed_degradations=[types_pb2.DEGRADATION_NO_HISTORY],
        max_rows=99,
        filter=types_pb2.Filter(exclude_history=False, exclude_item_ids=["x"]),
        include_metadata=True,
        debug=True,
    )


async def test_exclude_history_is_absent_by_default(call, service):
    await call("recommend", "u")
    assert not service.requests[0].filter.HasField("exclude_history")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, types_pb2.Filter()),
        ({"allow_item_ids": None, "created_after": None}, types_pb2.Filter()),
        (
            {"allow_item_ids": ["a", "b"], "exclude_item_ids": ("c",)},
            types_pb2.Filter(allow_item_ids=["a", "b"], exclude_item_ids=["c"]),
        ),
        (
            {"required_tags": ["fresh", ["red", "blue"]]},
            types_pb2.Filter(
                required_tags=[
                    types_pb2.TagClause(any_of=["fresh"]),
                    types_pb2.TagClause(any_of=["red", "blue"]),
                ]
            ),
        ),
        ({"created_after": 0}, types_pb2.Filter(created_after_ms=0)),
        (
            {"created_after": datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=-1)))},
            types_pb2.Filter(created_after_ms=7_200_000),
        ),
        (
            {"created_after": datetime(1970, 1, 1, 0, 0, 0, 1001, tzinfo=UTC)},
            types_pb2.Filter(created_after_ms=2),
        ),
    ],
)
async def test_filters_reach_the_request(call, service, options, expected):
    await call("recommend", "u", **options)
    assert service.requests[0].filter == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow_item_ids": []}, ValueError),
        ({"allow_item_ids": "item"}, TypeError),
        ({"exclude_item_ids": "item"}, TypeError),
        ({"required_tags": "fresh"}, TypeError),
        ({"created_after": datetime(2026, 1, 1)}, ValueError),
        ({"created_after": "2026-01-01"}, TypeError),
    ],
)
async def test_filters_that_mean_something_else_are_refused(call, service, options, error):
    with pytest.raises(error):
        await call("recommend", "u", **options)
    assert service.requests == []


async def test_wrong_option_is_refused_before_the_call(call, service):
    with pytest.raises(ValueError, match="'auto', 'off', 'on'"):
        await call("recommend", "u", speculation="maybe")
    with pytest.raises(TypeError, match="number"):
        await call("recommend", "u", number=5)
    assert service.requests == []


async def test_histories(call, service):
    events = [Interaction("a"), Interaction("b")]
    result = await call("record_interactions", "u", events)
    assert (result.stored, result.duplicates, result.total) == (1, 2, 3)
    sent = [event.event_id for event in service.requests[0].events]
    assert sent == [event.event_id for event in events] and len(set(sent)) == 2
    history = await call("get_history", "u", limit=4)
    assert service.requests[1].limit == 4
    assert history.events == (Interaction("i", "e", 5, "view"),) and history.total == 9
    assert await call("delete_user", "u") is True


async def test_info(call):
    info = await call("get_info")
    assert info.bundles[0].score_kind == "trie"
    assert info.bundles[0].tags == (TagInfo("fresh", 3),)
    assert info.bundles[0].freshness_bucket_ms == 3_600_000
    assert (info.default_bundle, info.max_num_items) == ("b", 100)
    assert (info.max_allowed_items, info.max_tag_clauses) == (20, 4)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (InvalidRequest([Violation("num_items", "too large")]), InvalidRequestError),
        (UnknownBundle(metadata={"bundle": "x"}), NotFoundError),
        (Overloaded(retry_after_s=0.5), OverloadedError),
        (StoreUnavailable(), UnavailableError),
        (ValueError("a bug"), ClientError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_errors_are_rebuilt(call, service, fault, kind):
    service.fault = fault
    with pytest.raises(ClientError) as caught:
        await call("recommend", "u")
    error = caught.value
    assert type(error) is kind
    assert error.reason == getattr(fault, "reason", "INTERNAL")
    assert error.code == getattr(fault, "status", "INTERNAL")
    assert error.retryable == getattr(fault, "retryable", False)
    assert error.violations == getattr(fault, "violations", ())
    assert error.retry_after_s == getattr(fault, "retry_after_s", None)
    assert len(error.request_id) == 32
    assert "a bug" not in str(error)


async def test_slow_answer_is_a_deadline_error(call):
    with pytest.raises(DeadlineError) as caught:
        await call("recommend", "slow", timeout_s=0.2)
    assert caught.value.reason == ""


async def test_nobody_there_is_unavailable():
    async with RecommendClient("127.0.0.1:1", timeout_s=5) as client:
        with pytest.raises(UnavailableError):
            await client.get_info()


async def test_closed_async_client_opens_again(address):
    client = RecommendClient(address)
    await client.get_info()
    await client.close()
    assert (await client.get_info()).default_bundle == "b"
    await client.close()


def test_both_clients_have_the_same_methods():
    def signatures(cls):
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert signatures(RecommendClient) == signatures(SyncRecommendClient)


async def test_example_in_the_docstring_runs(address):
    indented = [line for line in specbeam.client.__doc__.splitlines() if line.startswith("    ")]
    source = textwrap.dedent("\n".join(indented)).replace("localhost:50051", address)
    code = compile(source, "example", "exec")
    names: dict[str, object] = {}
    thread = threading.Thread(target=exec, args=(code, names))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert names["item"].item_id == "i"
