"""StreamRecommend over real servers: every level against plain search, and how streams end."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from specbeam.client import (
    DeadlineError,
    Interaction,
    InvalidRequestError,
    NotFoundError,
    Recommendation,
    RootPreview,
    StreamEvent,
    UnavailableError,
    VerifiedLevel,
)
from tests.bundles import exact_norms, tiny_bundle
from tests.exact_beams import PlainBeams
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
def plain() -> PlainBeams:
    return PlainBeams(tiny_bundle())


@pytest.fixture(scope="module", params=["root-first", "one-pass"])
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    async with running(tiny_bundle(), flow=request.param) as stack:
        events = [Interaction(item, event_id=item) for item in HISTORY]
        await stack.client.record_interactions("ann", events)
        yield stack


async def _events(stack: Stack, *args: Any, **options: Any) -> list[StreamEvent]:
    return [event async for event in stack.client.stream_recommend(*args, **options)]


def _check_same(answer: Recommendation, other: Recommendation) -> None:
    """Equal but for the last digits, which the shape of a pass may change."""
    assert answer.degraded == other.degraded and len(answer.items) == len(other.items)
    for item, same in zip(answer.items, other.items, strict=True):
        assert (item.item_id, item.tokens, item.metadata) == (
            same.item_id,
            same.tokens,
            same.metadata,
        )
        assert item.score == pytest.approx(same.score, abs=1e-9)


def _check_news(stack: Stack, news: Sequence[Any], exact: dict[int, dict[Any, float]]) -> None:
    assert [type(event) for event in news] == [RootPreview, VerifiedLevel, VerifiedLevel]
    assert [event.level for event in news[1:]] == [2, 3]
    trie = stack.bundle.trie
    paths = trie.paths(np.arange(trie.num_items)).tolist()
    for level, event in enumerate(news, start=1):
        assert {beam.tokens for beam in event.beams} == exact[level].keys()
        for beam in event.beams:
            assert beam.score == pytest.approx(exact[level][beam.tokens], abs=1e-5)
            assert beam.num_items == sum(tuple(p[:level]) == beam.tokens for p in paths)
        ranked = [(-beam.rank_value, beam.tokens) for beam in event.beams]
        assert ranked == sorted(ranked)
    elapsed = [event.elapsed_ms for event in news]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0


@pytest.mark.parametrize("speculation", ["off", "on", "auto"])
@pytest.mark.parametrize("num_items", [1, 5, 20])
async def test_levels_equal_plain_search_and_the_answer_that_of_recommend(
    stack: Stack, plain: PlainBeams, oracle: Oracle, speculation: Any, num_items: int
) -> None:
    *news, answer = await _events(
        stack, "ann", num_items=num_items, speculation=speculation, include_metadata=True
    )
    width = max(num_items, stack.bundle.manifest.default_beam_width)
    _check_news(stack, news, plain.levels(HISTORY, width, HISTORY))
    assert isinstance(answer, Recommendation)
    other = await stack.client.recommend(
        "ann", num_items=num_items, speculation=speculation, include_metadata=True
    )
    _check_same(answer, other)
    assert (answer.exhausted, answer.bundle) == (other.exhausted, other.bundle)
    if speculation == "off":
        assert answer.work.passes == 4 and answer.work.flow == "plain"
        oracle.check(answer, oracle.rank(HISTORY, num_items, excluded=HISTORY))


async def test_preview_names_allowed_items_below_the_beams(stack: Stack) -> None:
    allowed = [f"item-{number:04d}" for number in range(40, 90)]
    preview, *_ = await _events(
        stack, "ann", num_items=7, allow_item_ids=allowed, include_metadata=True
    )
    assert isinstance(preview, RootPreview)
    guesses = [guess.item_id for guess in preview.guesses]
    assert 0 < len(guesses) <= 7 and len(set(guesses)) == len(guesses)
    assert set(guesses) <= set(allowed) - set(HISTORY)
    trie = stack.bundle.trie
    first = {beam.tokens[0] for beam in preview.beams}
    assert set(trie.paths(trie.index_of(guesses))[:, 0].tolist()) <= first
    for guess in preview.guesses:
        assert guess.metadata is not None
        assert guess.metadata.title == f"Title of {guess.item_id}"
    bare, *_ = await _events(stack, "ann", num_items=7)
    assert isinstance(bare, RootPreview)
    assert all(guess.metadata is None for guess in bare.guesses)


async def test_nothing_to_return_is_an_answer_without_news(stack: Stack) -> None:
    everything = [stack.bundle.trie.item_id(i) for i in range(stack.bundle.trie.num_items)]
    *news, answer = await _events(stack, "ann", exclude_item_ids=everything)
    assert isinstance(answer, Recommendation)
    assert answer.items == () and answer.exhausted
    assert all(event.beams == () for event in news if isinstance(event, RootPreview))


async def test_flags_and_details_are_in_the_answer(stack: Stack) -> None:
    *_, answer = await _events(stack, "nobody", debug=True, speculation="on")
    assert isinstance(answer, Recommendation)
    assert answer.degraded == ("empty_history",)
    assert answer.debug is not None and answer.debug.rounds and answer.debug.spans


async def test_errors_are_ordinary(stack: Stack) -> None:
    with pytest.raises(InvalidRequestError):
        await _events(stack, "ann", num_items=1000)
    with pytest.raises(NotFoundError) as caught:
        await _events(stack, "ann", bundle="other")
    assert caught.value.reason == "UNKNOWN_BUNDLE" and caught.value.request_id
    with pytest.raises(DeadlineError):
        await _events(stack, "ann", timeout_s=0.002)
    await stack.until_slots_are_back()


async def test_leaving_early_ends_the_search(stack: Stack) -> None:
    for _ in range(6):
        async with aclosing(stack.client.stream_recommend("ann", num_items=40)) as events:
            assert isinstance(await anext(events), RootPreview)
    await stack.until_slots_are_back()
    assert (await stack.client.recommend("ann")).items


async def test_concurrent_streams_do_not_mix(stack: Stack) -> None:
    async def ask(number: int) -> None:
        history = [Interaction(f"item-{number:04d}")]
        *_, answer = await _events(stack, events=history, speculation=("off", "on")[number % 2])
        expected = await stack.client.recommend(events=history, speculation="off")
        assert isinstance(answer, Recommendation)
        _check_same(answer, expected)

    await asyncio.gather(*map(ask, range(8)))
    await stack.until_slots_are_back()


async def test_target_that_is_gone_is_unavailable() -> None:
    async with running(tiny_bundle(), target="127.0.0.1:1") as stack:
        with pytest.raises(UnavailableError):
            await _events(stack, "ann")


async def test_stream_under_way_is_finished_when_the_server_stops() -> None:
    async with running(tiny_bundle(), grace_s=5) as stack:
        async with aclosing(stack.client.stream_recommend(num_items=40)) as events:
            await anext(events)
            stopping = asyncio.create_task(stack.orchestrator.stop())
            rest = [event async for event in events]
            await stopping
        assert isinstance(rest[-1], Recommendation)


async def test_what_is_amiss_is_in_the_answer() -> None:
    async with running(tiny_bundle(), draft="127.0.0.1:1", drafters=("model",)) as stack:
        *news, answer = await _events(stack, events=[Interaction(HISTORY[0])], speculation="on")
        assert isinstance(answer, Recommendation) and answer.degraded == ("no_draft",)
        assert isinstance(news[0], RootPreview) and len(news) == 3
