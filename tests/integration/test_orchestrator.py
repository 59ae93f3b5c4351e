"""Whole requests over real servers, compared with plain search in this process."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from specbeam.client import (
    ClientError,
    DeadlineError,
    Interaction,
    InvalidRequestError,
    NotFoundError,
)
from tests.bundles import exact_norms, tiny_bundle
from tests.stack import Oracle, Stack, running

HISTORY = [f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35)]


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(tiny_bundle())


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with running(tiny_bundle()) as stack:
        events = [Interaction(item, event_id=item) for item in HISTORY]
        await stack.client.record_interactions("ann", events)
        yield stack


@pytest.fixture(params=["off", "on", "auto"])
def speculation(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("num_items", [1, 3, 10, 40])
async def test_answer_equals_plain_search(
    stack: Stack, oracle: Oracle, speculation: Any, num_items: int
) -> None:
    answer = await stack.client.recommend("ann", num_items=num_items, speculation=speculation)
    oracle.check(answer, oracle.rank(HISTORY, num_items, excluded=HISTORY))
    assert answer.degraded == ()
    if speculation == "on":
        assert answer.work.speculation_used
        assert answer.work.flow == "root_first"
        assert answer.work.drafted_nodes > 0
    if speculation == "off":
        assert (answer.work.passes, answer.work.rounds, answer.work.flow) == (4, 0, "plain")


async def test_narrow_budget_and_wide_beam_are_exact(stack: Stack, oracle: Oracle) -> None:
    for max_rows in (30, 64):
        answer = await stack.client.recommend(
            "ann", num_items=5, beam_width=30, max_rows=max_rows, speculation="on"
        )
        oracle.check(answer, oracle.rank(HISTORY, 5, excluded=HISTORY, beam_width=30))


async def test_history_may_be_recommended_again(
    stack: Stack, oracle: Oracle, speculation: Any
) -> None:
    answer = await stack.client.recommend(
        "ann", num_items=20, exclude_history=False, speculation=speculation
    )
    oracle.check(answer, oracle.rank(HISTORY, 20))


@pytest.mark.parametrize("left", [0, 3])
async def test_filter_that_leaves_few_items(
    stack: Stack, oracle: Oracle, speculation: Any, left: int
) -> None:
    everything = [stack.bundle.trie.item_id(i) for i in range(stack.bundle.trie.num_items)]
    kept = everything[100 : 100 + left]
    excluded = [item for item in everything if item not in kept]
    answer = await stack.client.recommend(
        events=[Interaction(HISTORY[0])],
        num_items=5,
        exclude_item_ids=excluded,
        exclude_history=False,
        speculation=speculation,
    )
    assert sorted(item.item_id for item in answer.items) == sorted(kept)
    assert answer.exhausted
    oracle.check(answer, oracle.rank(HISTORY[:1], 5, excluded=excluded))


async def test_zero_items_means_ten(stack: Stack, oracle: Oracle) -> None:
    answer = await stack.client.recommend("ann", num_items=0)
    oracle.check(answer, oracle.rank(HISTORY, 10, excluded=HISTORY))


async def test_more_items_than_exist_under_the_filter(stack: Stack, oracle: Oracle) -> None:
    everything = [stack.bundle.trie.item_id(i) for i in range(stack.bundle.trie.num_items)]
    answer = await stack.client.recommend("ann", num_items=200, exclude_item_ids=everything[150:])
    expected = oracle.rank(HISTORY, 200, excluded=[*HISTORY, *everything[150:]])
    oracle.check(answer, expected)
    assert answer.exhausted


async def test_cold_start(stack: Stack, oracle: Oracle, speculation: Any) -> None:
    for user in ("", "nobody"):
        answer = await stack.client.recommend(user, num_items=7, speculation=speculation)
        oracle.check(answer, oracle.rank([], 7))
        assert answer.degraded == ("empty_history",)
        assert answer.work.prompt_tokens == 1


async def test_inline_events_replace_the_prompt_but_not_what_was_seen(
    stack: Stack, oracle: Oracle
) -> None:
    inline = ["item-0007", "item-0008"]
    answer = await stack.client.recommend("ann", events=[Interaction(i) for i in inline])
    oracle.check(answer, oracle.rank(inline, 10, excluded=[*inline, *HISTORY]))
    answer = await stack.client.recommend("", events=[Interaction(i) for i in inline])
    oracle.check(answer, oracle.rank(inline, 10, excluded=inline))


async def test_metadata_and_debug(stack: Stack) -> None:
    answer = await stack.client.recommend(
        "ann", num_items=3, include_metadata=True, debug=True, speculation="on"
    )
    for item in answer.items:
        assert item.metadata is not None
        assert item.metadata.title == f"Title of {item.item_id}"
        assert item.metadata.topics == ("topic",)
    assert answer.debug is not None
    assert len(answer.debug.prompt_token_ids) == answer.work.prompt_tokens == 1 + 4 * len(HISTORY)
    forwards = answer.debug.forwards
    assert {forward.service for forward in forwards} == {"target", "draft"}
    assert sum(forward.service == "target" for forward in forwards) == answer.work.passes
    assert [f.start_ns for f in forwards] == sorted(f.start_ns for f in forwards)
    plain = await stack.client.recommend("ann", num_items=3)
    assert plain.debug is None
    assert all(item.metadata is None for item in plain.items)


async def test_every_broken_rule_is_named(stack: Stack) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await stack.client.recommend(
            "u" * 257,
            num_items=1000,
            beam_width=5,
            max_rows=100_000,
            events=[Interaction("")],
            exclude_item_ids=["x" * 300],
        )
    assert {violation.field for violation in caught.value.violations} == {
        "user_id",
        "num_items",
        "beam_width",
        "max_rows",
        "events[0].item_id",
        "filter.exclude_item_ids[0]",
    }


async def test_unknown_items_are_named(stack: Stack) -> None:
    events = [Interaction("item-0001"), Interaction("nowhere"), Interaction("neither")]
    for call in (
        stack.client.recommend("ann", events=events),
        stack.client.record_interactions("ann", events),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await call
        fields = [violation.field for violation in caught.value.violations]
        assert fields == ["events[1].item_id", "events[2].item_id"]
        assert caught.value.metadata["unknown_item_ids"] == "nowhere,neither"


async def test_unknown_excluded_items_are_ignored(stack: Stack, oracle: Oracle) -> None:
    answer = await stack.client.recommend("ann", exclude_item_ids=["nowhere"])
    oracle.check(answer, oracle.rank(HISTORY, 10, excluded=HISTORY))


async def test_unknown_names(stack: Stack) -> None:
    with pytest.raises(NotFoundError) as caught:
        await stack.client.recommend("ann", bundle="other")
    assert caught.value.reason == "UNKNOWN_BUNDLE"
    with pytest.raises(NotFoundError) as caught:
        await stack.client.get_history("nobody")
    assert caught.value.reason == "UNKNOWN_USER"


async def test_history_is_kept_in_order_and_removed(stack: Stack) -> None:
    client = stack.client
    events = [Interaction("item-0005", "e1", 7, "view"), Interaction("item-0004", "e2")]
    assert (await client.record_interactions("bob", events)).stored == 2
    again = await client.record_interactions("bob", [*events, Interaction("item-0009", "e3")])
    assert (again.stored, again.duplicates, again.total) == (1, 2, 3)
    history = await client.get_history("bob", limit=2)
    assert [event.item_id for event in history.events] == ["item-0004", "item-0009"]
    assert history.total == 3
    assert await client.delete_user("bob")
    assert not await client.delete_user("bob")
    with pytest.raises(NotFoundError):
        await client.get_history("bob")


async def test_info(stack: Stack) -> None:
    info = await stack.client.get_info()
    assert info.target_available and info.draft_available
    assert info.default_bundle == "tiny" and info.bundles[0].num_items == 300
    assert (info.max_num_items, info.max_beam_width) == (256, 256)


async def test_spent_deadline(stack: Stack) -> None:
    with pytest.raises(DeadlineError):
        await stack.client.recommend("ann", timeout_s=0.002)
    await stack.until_slots_are_back()


async def _raw(stack: Stack, data: bytes) -> grpc.StatusCode:
    options = [("grpc.max_send_message_length", -1)]
    address = f"127.0.0.1:{stack.orchestrator.port}"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary("/specbeam.recommend.v1.RecommendService/Recommend")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(data, timeout=5)
    return caught.value.code()


async def test_malformed_and_oversized_messages(stack: Stack) -> None:
    assert await _raw(stack, b"\xff\xff\xff\xff") is grpc.StatusCode.INVALID_ARGUMENT
    assert await _raw(stack, bytes(10_000_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await stack.client.recommend("ann")).items


async def test_concurrent_requests_do_not_mix(stack: Stack, oracle: Oracle) -> None:
    import asyncio

    async def ask(number: int) -> None:
        history = [f"item-{number:04d}", f"item-{number + 1:04d}"]
        answer = await stack.client.recommend(
            events=[Interaction(item) for item in history],
            speculation=("off", "on", "auto")[number % 3],  # type: ignore[misc]
        )
        oracle.check(answer, expected[number])

    expected = {
        n: oracle.rank(ids := [f"item-{n:04d}", f"item-{n + 1:04d}"], 10, excluded=ids)
        for n in range(24)
    }
    await asyncio.gather(*map(ask, expected))
    await stack.until_slots_are_back()


async def test_client_error_has_a_request_id(stack: Stack) -> None:
    with pytest.raises(ClientError) as caught:
        await stack.client.recommend("ann", bundle="other")
    assert caught.value.request_id
