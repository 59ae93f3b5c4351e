"""The draft service gone, slow or lying: the answer stays exact and says what happened."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from specbeam.client import Interaction
from specbeam.draft.v1alpha1 import draft_service_pb2 as pb
from specbeam.draft.v1alpha1 import draft_service_pb2_grpc as pb_grpc
from specbeam.runtime.server import bind, create_server
from tests.bundles import exact_norms, tiny_bundle
from tests.stack import Oracle, running

HISTORY = [f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35)]
EVENTS = [Interaction(item) for item in HISTORY]

Propose = pb.Propose
Levels = AsyncIterator[pb.DraftResponse]
Lie = Callable[[Propose], list[pb.DraftResponse]]


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(tiny_bundle())


class FaultyDraft(pb_grpc.DraftServiceServicer):
    """Says `Ready`, then whatever the test wants."""

    def __init__(self, answer: Callable[[Propose], Levels]) -> None:
        self._answer = answer
        self.cancelled = 0

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:
        return pb.GetInfoResponse()

    async def Draft(
        self, request_iterator: AsyncIterator[pb.DraftRequest], context: Any
    ) -> AsyncIterator[pb.DraftResponse]:
        try:
            async for request in request_iterator:
                if request.WhichOneof("step") == "open":
                    yield pb.DraftResponse(ready=pb.Ready())
                else:
                    async for response in self._answer(request.propose):
                        yield response
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@asynccontextmanager
async def faulty_draft(answer: Callable[[Propose], Levels]) -> AsyncIterator[tuple[str, Any]]:
    server = create_server()
    servicer = FaultyDraft(answer)
    pb_grpc.add_DraftServiceServicer_to_server(servicer, server)
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}", servicer
    await server.stop(None)


def _level(propose: Propose, **fields: Any) -> pb.DraftResponse:
    base = propose.beams.level
    given = {"base_level": base, "level": base + 1, "last": True} | fields
    return pb.DraftResponse(level=pb.DraftedLevel(**given))


def _too_many(propose: Propose) -> list[pb.DraftResponse]:
    count = max(propose.max_nodes, 10) + 1
    return [_level(propose, parents=[0] * count, tokens=[20] * count)]


LIES: dict[str, Lie] = {
    "wrong level": lambda p: [_level(p, level=3, parents=[0], tokens=[20])],
    "wrong base": lambda p: [_level(p, base_level=0, parents=[0], tokens=[20])],
    "parent out of range": lambda p: [_level(p, parents=[5000], tokens=[20])],
    "halves differ": lambda p: [_level(p, parents=[0, 1], tokens=[20])],
    "token out of range": lambda p: [_level(p, parents=[0], tokens=[4_000_000_000])],
    "too many nodes": _too_many,
    "too many levels": lambda p: [
        _level(p, parents=[0], tokens=[20], last=False),
        _level(p, level=3, parents=[10], tokens=[30], last=False),
        _level(p, level=4, parents=[11], tokens=[40]),
    ],
    "second ready": lambda p: [pb.DraftResponse(ready=pb.Ready())],
    "no event": lambda p: [pb.DraftResponse()],
    "not finite": lambda p: [
        _level(p, parents=[0], tokens=[20], stats=pb.DraftStats(forward_ms=float("nan")))
    ],
}


@pytest.mark.parametrize("name", LIES)
async def test_lying_draft_is_found_out(oracle: Oracle, name: str) -> None:
    async def answer(propose: Propose) -> Levels:
        for response in LIES[name](propose):
            yield response

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ("draft_invalid",)
        assert not found.work.speculation_used
        await stack.until_slots_are_back()


async def test_nonsense_within_the_protocol_costs_nothing_but_time(oracle: Oracle) -> None:
    async def answer(propose: Propose) -> Levels:
        # Valid numbers, but no such nodes in the trie, and the same one again and again.
        yield _level(propose, parents=[0, 0, 0, 1, 1], tokens=[3, 20, 20, 50, 1])

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ()
        assert found.work.dropped_nodes >= 3


async def test_empty_proposals_are_no_fault(oracle: Oracle) -> None:
    async def answer(propose: Propose) -> Levels:
        yield _level(propose)

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert (found.degraded, found.work.rounds) == ((), 0)


async def test_slow_draft_is_not_waited_for(oracle: Oracle) -> None:
    async def answer(propose: Propose) -> Levels:
        await asyncio.sleep(30)
        yield _level(propose)

    async with (
        faulty_draft(answer) as (address, servicer),
        running(tiny_bundle(), draft=address, draft_timeout_ms=60) as stack,
    ):
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ("draft_slow",)
        assert 55 <= found.timings.draft_ms < 1000
        await asyncio.sleep(0.05)
        assert servicer.cancelled == 1


async def test_draft_gets_a_share_of_a_short_deadline_only(oracle: Oracle) -> None:
    async def answer(propose: Propose) -> Levels:
        await asyncio.sleep(30)
        yield _level(propose)

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        found = await stack.client.recommend(events=EVENTS, speculation="on", timeout_s=1.0)
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ("draft_slow",)


async def test_dying_draft(oracle: Oracle) -> None:
    async def answer(propose: Propose) -> Levels:
        yield _level(propose, parents=[0], tokens=[20], last=False)
        raise RuntimeError("gone")

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ("no_draft",)


@pytest.mark.parametrize("draft", [False, "127.0.0.1:9"], ids=["none", "unreachable"])
async def test_absent_draft(oracle: Oracle, draft: Any) -> None:
    async with running(tiny_bundle(), draft=draft) as stack:
        info = await stack.client.get_info()
        assert (info.target_available, info.draft_available) == (True, False)
        assert stack.orchestrator.health.is_ready
        for _ in range(6):
            found = await stack.client.recommend(events=EVENTS, speculation="on")
            oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
            assert found.degraded == (("no_draft",) if draft else ())
        auto = await stack.client.recommend(events=EVENTS)
        oracle.check(auto, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert draft or auto.degraded == ()


async def test_draft_that_comes_back_is_used_again() -> None:
    broken = True

    async def answer(propose: Propose) -> Levels:
        if broken:
            raise RuntimeError("gone")
        yield _level(propose, parents=[0], tokens=[15])

    async with faulty_draft(answer) as (address, _), running(tiny_bundle(), draft=address) as stack:
        for _ in range(4):
            found = await stack.client.recommend(events=EVENTS, speculation="on")
            assert found.degraded == ("no_draft",)
        broken = False
        await asyncio.sleep(1.05)
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        assert (found.degraded, found.work.rounds > 0) == ((), True)


async def test_client_that_leaves_frees_both_sessions() -> None:
    asked = asyncio.Event()

    async def answer(propose: Propose) -> Levels:
        asked.set()
        await asyncio.sleep(30)
        yield _level(propose)

    async with (
        faulty_draft(answer) as (address, servicer),
        running(tiny_bundle(), draft=address) as stack,
    ):
        calls = [
            asyncio.create_task(stack.client.recommend(events=EVENTS, speculation="on"))
            for _ in range(3)
        ]
        await asked.wait()
        await asyncio.sleep(0.1)
        assert await stack.slots_free() == 1
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        # Well before the idle lease of one second.
        async with asyncio.timeout(0.8):
            await stack.until_slots_are_back()
        assert servicer.cancelled == 3
