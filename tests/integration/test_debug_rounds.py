"""Details of every round, against exact beams that plain search finds."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from specbeam.client import DebugRound, Interaction, Recommendation
from tests.bundles import exact_norms, tiny_bundle
from tests.exact_beams import Path, PlainBeams
from tests.stack import Stack, running

HISTORIES = [[f"item-{7 * n + step:04d}" for step in (1, 5, 17)] for n in range(6)]
LENGTH = 4


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def plain() -> PlainBeams:
    return PlainBeams(tiny_bundle())


@pytest.fixture(scope="module", params=["root-first", "one-pass"])
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    async with running(tiny_bundle(), flow=request.param) as stack:
        yield stack


async def _ask(stack: Stack, history: list[str], **options: Any) -> Recommendation:
    events = [Interaction(item) for item in history]
    return await stack.client.recommend(events=events, debug=True, **options)


def _check_round(one: DebugRound, exact: dict[int, dict[Path, float]]) -> Counter[str]:
    """Every fate as recomputed from the exact beams and from who drafted what."""
    paths = [node.tokens for node in one.nodes]
    assert len(set(paths)) == len(paths)
    for node in one.nodes:
        level = len(node.tokens)
        assert one.base_level < level < LENGTH
        is_exact = node.tokens in exact[level]
        drafted = node.source not in ("", "target")
        assert drafted == (node.draft_score is not None)
        if level > one.level:
            expected = "unreached"
        elif not drafted:
            expected = "missed" if level == one.level else "accepted"
            assert is_exact and node.source == ("" if level == one.level else "target")
        else:
            expected = "accepted" if is_exact else "rejected"
        assert node.fate == expected
        if is_exact and level <= one.level:
            assert node.target_score == pytest.approx(exact[level][node.tokens], abs=1e-5)
    for level in range(one.base_level + 1, min(one.level, LENGTH - 1) + 1):
        assert set(exact[level]) <= set(paths)
    return Counter(node.fate for node in one.nodes if one.step == "tree")


async def test_fates_equal_those_of_plain_search(stack: Stack, plain: PlainBeams) -> None:
    fates: Counter[str] = Counter()
    for number, history in enumerate(HISTORIES):
        for k, max_rows in ((1, 8), (5, 12), (5, 40), (20, 60), (20, 128)):
            answer = await _ask(
                stack, history, num_items=k, beam_width=k, max_rows=max_rows, speculation="on"
            )
            exact = plain.levels(history, k, history)
            assert answer.debug is not None
            rounds = answer.debug.rounds
            levels = [0, *(one.level for one in rounds)]
            assert [one.base_level for one in rounds] == levels[:-1]
            assert levels[-1] == LENGTH, number
            for one in rounds:
                fates += _check_round(one, exact)
            drafted = sum(node.draft_score is not None for one in rounds for node in one.nodes)
            assert drafted == answer.work.drafted_nodes == sum(answer.debug.draft_sources.values())
            assert sum(one.rows for one in rounds) == answer.work.rows
            assert sum(one.step == "tree" for one in rounds) == answer.work.rounds
    assert all(fates[fate] for fate in ("accepted", "rejected", "missed", "unreached")), fates


async def test_drafted_children_are_no_likelier_than_their_parents(stack: Stack) -> None:
    answer = await _ask(stack, HISTORIES[0], num_items=10, speculation="on")
    assert answer.debug is not None
    for one in answer.debug.rounds:
        scores = {node.tokens: node.draft_score for node in one.nodes}
        for path, score in scores.items():
            parent = scores.get(path[:-1])
            if score is not None and parent is not None:
                assert score <= parent + 1e-9


async def test_plain_search_has_rounds_too(stack: Stack, plain: PlainBeams) -> None:
    answer = await _ask(stack, HISTORIES[1], num_items=10, speculation="off")
    assert answer.debug is not None
    (only,) = answer.debug.rounds
    assert (only.base_level, only.level, only.step) == (0, LENGTH, "plain")
    exact = plain.levels(HISTORIES[1], 10, HISTORIES[1])
    for level in range(1, LENGTH):
        found = {node.tokens for node in only.nodes if len(node.tokens) == level}
        assert found == exact[level].keys()


async def test_spans_are_on_the_clock_of_the_forwards(stack: Stack) -> None:
    answer = await _ask(stack, HISTORIES[2], num_items=10, speculation="on")
    debug = answer.debug
    assert debug is not None
    names = [span.name for span in debug.spans]
    assert names[:2] == ["history", "prompt"] and names[-1] == "rank"
    assert {"open", "draft", "tree"} <= set(names)
    starts = [span.start_ns for span in debug.spans]
    assert starts == sorted(starts)
    targets = [span for span in debug.spans if span.name in ("open", "verify")]
    for forward in debug.forwards:
        if forward.service == "target":
            assert any(
                span.start_ns <= forward.start_ns <= forward.end_ns <= span.end_ns
                for span in targets
            )
    for span in targets:
        assert span.round is not None and debug.rounds[span.round].forward_ms > 0
    whole = (debug.spans[-1].end_ns - debug.spans[0].start_ns) / 1e6
    assert 0 < whole <= answer.timings.total_ms


async def test_details_change_nothing(stack: Stack) -> None:
    events = [Interaction(item) for item in HISTORIES[3]]
    for speculation in ("off", "on"):
        bare = await stack.client.recommend(events=events, speculation=speculation)
        told = await stack.client.recommend(events=events, speculation=speculation, debug=True)
        assert bare.items == told.items and bare.work == told.work
        assert bare.debug is None


async def test_server_may_refuse_details() -> None:
    async with running(tiny_bundle(), allow_debug=False) as stack:
        answer = await _ask(stack, HISTORIES[0])
        assert answer.debug is None and answer.items
