"""What watches of a search are told, on services without a wire."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from orchestrator import debug
from orchestrator.debug import DetailsWatch, Fate
from orchestrator.ports import ROOT, BeamPaths, SessionLost, SessionSpec, TargetTurn
from orchestrator.query import Answer
from orchestrator.search import Flow, Searcher, SearchJob
from orchestrator.streaming import LevelNews, NewsWatch, follow
from orchestrator.watch import UNWATCHED, SearchWatch, Watches, step_name
from specbeam.catalog import PAD
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.choosing import TreeEstimate
from specbeam.drafting.drafted_nodes import DraftedNodes
from specbeam.runtime.deadlines import CallBudget
from tests import orchestrator_fakes as fakes

FAT = (50.0, 50.0, 2.0, 1.5)


class Told(SearchWatch):
    """Remembers what it is told."""

    def __init__(self, *, stepwise: bool = False) -> None:
        self.stepwise = stepwise
        self.log: list[Any] = []

    def tree(
        self,
        beams: BeamPaths,
        tree: CandidateTree,
        drafted: DraftedNodes | None,
    ) -> None:
        self.log.append(("tree", beams.level, len(tree)))

    def turn(self, before: BeamPaths, turn: TargetTurn, step: str) -> None:
        self.log.append((step, before.level, turn.beams.level))

    def span(self, name: str, start_ns: int) -> None:
        assert start_ns <= time.monotonic_ns()
        self.log.append(name)


async def _run(spec: SessionSpec, watch: SearchWatch, *, draft: bool, target: Any = None) -> Any:
    target = target or fakes.FakeTarget()
    levels = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0, 1])])
    job = SearchJob(
        spec,
        FAT,
        CallBudget(time.monotonic() + 5),
        Flow.ROOT_FIRST if draft else Flow.PLAIN,
        fakes.FakeCandidates(),
        watch=watch,
    )
    await Searcher(target, levels if draft else None, 500).run(job)
    return target


async def test_everything_is_told_in_order(spec: SessionSpec) -> None:
    watch = Told()
    await _run(spec, watch, draft=True)
    assert watch.log == [
        ("prompt", 0, 1),
        "open",
        "draft",
        "tree",
        ("tree", 1, 2),
        ("tree", 1, 3),
        "verify",
        ("run", 3, 4),
        "verify",
    ]


async def test_plain_search_goes_level_by_level_only_for_those_who_want_to_see_it(
    spec: SessionSpec,
) -> None:
    target = await _run(spec, UNWATCHED, draft=False)
    assert target.log == [("open", 0), ("then PlainSteps", 1)]
    watch = Told(stepwise=True)
    target = await _run(spec, watch, draft=False)
    assert target.log == [("open", 0), *(("PlainSteps", level) for level in (1, 2, 3))]
    turns = [entry for entry in watch.log if isinstance(entry, tuple)]
    assert turns == [("prompt", 0, 1), *(("plain", n, n + 1) for n in (1, 2, 3))]


@pytest.mark.parametrize(
    ("stepwise", "log"),
    [(False, [("open", 0), ("then RunToEnd", 1)]), (True, [("open", 0), ("RunToEnd", 1)])],
)
async def test_level_1_is_seen_when_nobody_drafts(
    spec: SessionSpec, stepwise: bool, log: list[Any]
) -> None:
    target = fakes.FakeTarget()
    job = SearchJob(
        spec,
        FAT,
        CallBudget(time.monotonic() + 5),
        Flow.ROOT_FIRST,
        fakes.FakeCandidates(),
        watch=Told(stepwise=stepwise),
    )
    await Searcher(target, None, 500).run(job)
    assert target.log == log


async def test_lost_session_is_seen_as_another_turn(spec: SessionSpec, lost: SessionLost) -> None:
    watch = DetailsWatch()
    await _run(spec, watch, draft=False, target=fakes.FakeTarget(faults=[lost, None]))
    (only,) = watch.details().rounds
    assert (only.base_level, only.level, only.step) == (0, 4, "plain")


def test_several_watches_are_one() -> None:
    both = Watches([Told(), Told(stepwise=True), DetailsWatch()])
    assert both.stepwise and both.report_nodes == debug.REPORT_NODES
    both.span("rank", 0)
    assert not Watches([UNWATCHED]).stepwise and not UNWATCHED.report_nodes


def test_names_of_steps() -> None:
    tree = CandidateTree(0, np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert (step_name(None), step_name(tree)) == ("prompt", "tree")


def _turn(level: int, tokens: list[list[int]], finished: bool = False) -> TargetTurn:
    paths = np.array(tokens, np.int64).reshape(len(tokens), level)
    return TargetTurn(BeamPaths(level, paths, -np.arange(len(tokens), dtype=float)), finished)


def test_fates_of_a_hand_made_round(spec: SessionSpec) -> None:
    watch = DetailsWatch()
    watch.prepared(None, None, spec)  # type: ignore[arg-type]
    beams = _turn(1, [[1], [2]]).beams
    watch.turn(ROOT, _turn(1, [[1], [2]]), "prompt")
    tree = CandidateTree(1, np.array([0, 0, 1, 2, 2]), np.array([5, 6, 7, 8, PAD]))
    estimate = TreeEstimate(1.0, 2.0, (0.5,))
    said = DraftedNodes(("a", "b"), np.array([0, 1, 0, 1, 1]), -np.arange(5.0), estimate)
    watch.tree(beams, tree, said)
    watch.turn(beams, _turn(1, [[1], [2]]), "prompt")  # the session was opened again
    watch.turn(beams, _turn(2, [[1, 5], [2, 9]]), "tree")
    first, second = watch.details().rounds
    assert {node.tokens: node.fate for node in first.nodes} == {
        (1,): Fate.MISSED,
        (2,): Fate.MISSED,
    }
    assert {node.tokens: (node.fate, node.source, node.draft_score) for node in second.nodes} == {
        (1, 5): (Fate.ACCEPTED, "a", 0.0),
        (1, 6): (Fate.REJECTED, "b", -1.0),
        (2, 7): (Fate.REJECTED, "a", -2.0),
        (2, 9): (Fate.MISSED, "", None),
        (1, 5, 8): (Fate.UNREACHED, "b", -3.0),
    }
    assert second.estimate == estimate and first.estimate is None


def test_details_are_bounded_and_the_rest_is_counted(
    spec: SessionSpec, caplog: pytest.LogCaptureFixture
) -> None:
    watch = DetailsWatch()
    watch.prepared(None, None, spec)  # type: ignore[arg-type]
    beams = _turn(1, [[1], [2]]).beams
    count = debug.MAX_NODES + 500
    tree = CandidateTree(1, np.arange(count) % 2, 10 + np.arange(count))
    watch.tree(beams, tree, DraftedNodes(("a",), np.zeros(count, int), -np.arange(count) / 9))
    watch.turn(beams, _turn(2, [[1, 10], [2, 5]]), "tree")
    with caplog.at_level(logging.WARNING):
        details = watch.details()
    nodes = [node for one in details.rounds for node in one.nodes]
    assert (len(nodes), details.left_out) == (debug.MAX_NODES, 501)
    assert "501 nodes left out" in caplog.text
    assert {Fate.ACCEPTED, Fate.MISSED} <= {node.fate for node in nodes}
    scores = [node.draft_score for node in nodes if node.fate is Fate.REJECTED]
    assert min(score for score in scores if score is not None) == pytest.approx(-1998 / 9)


async def _collect(events: AsyncIterator[LevelNews | Answer]) -> list[Any]:
    return [event async for event in events]


def _news(watch: NewsWatch, level: int) -> LevelNews:
    beams = BeamPaths(level, np.zeros((1, level), np.int64), np.zeros(1))
    return LevelNews(None, None, beams, 0.0)  # type: ignore[arg-type]


async def test_news_come_before_the_answer() -> None:
    watch = NewsWatch(time.perf_counter())

    async def recommend() -> Any:
        watch.news.put_nowait(_news(watch, 1))
        await asyncio.sleep(0)
        watch.news.put_nowait(_news(watch, 2))
        return "answer"

    first, second, answer = await _collect(follow(watch, recommend))
    assert (first.beams.level, second.beams.level, answer) == (1, 2, "answer")


async def test_failure_comes_after_the_news() -> None:
    watch, seen = NewsWatch(time.perf_counter()), []

    async def recommend() -> Any:
        watch.news.put_nowait(_news(watch, 1))
        raise LookupError("gone")

    with pytest.raises(LookupError):
        async for event in follow(watch, recommend):
            seen.append(event)
    assert len(seen) == 1


async def test_search_ends_with_its_reader() -> None:
    watch, ended = NewsWatch(time.perf_counter()), asyncio.Event()

    async def recommend() -> Any:
        try:
            watch.news.put_nowait(_news(watch, 1))
            await asyncio.Event().wait()
        finally:
            ended.set()

    events = follow(watch, recommend)
    await anext(events)
    await events.aclose()
    assert ended.is_set()
