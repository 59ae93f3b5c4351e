"""The flows of one search, on services without a wire."""

import asyncio
import time
from typing import Any

import pytest

from orchestrator.breaker import Breaker
from orchestrator.flags import Flag
from orchestrator.ports import DraftFailed, SessionLost, SessionSpec, TargetTurn
from orchestrator.search import Flow, Searcher, SearchJob, SearchOutcome
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent, Internal, Overloaded, TargetUnavailable
from tests import orchestrator_fakes as fakes

FAT = (50.0, 50.0, 2.0, 1.5)


def _job(
    spec: SessionSpec,
    *,
    speculate: bool = True,
    fan_outs: Any = FAT,
    left_s: float = 5.0,
    flow: Flow = Flow.ROOT_FIRST,
    candidates: fakes.FakeCandidates | None = None,
    use_model: bool = True,
) -> SearchJob:
    budget = CallBudget(time.monotonic() + left_s)
    candidates = candidates or fakes.FakeCandidates()
    flow = flow if speculate else Flow.PLAIN
    return SearchJob(spec, fan_outs, budget, flow, candidates, use_model)


async def _run(target: Any, draft: Any, job: SearchJob, **options: Any) -> SearchOutcome:
    return await Searcher(target, draft, options.pop("timeout_ms", 500), **options).run(job)


async def test_plain_search_is_one_turn(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    outcome = await _run(target, None, _job(spec, speculate=False))
    assert target.log == [("open", 0), ("then PlainSteps", 1)]
    assert (outcome.beams.level, outcome.work.passes, outcome.work.prompt_rows) == (4, 1, 3)
    assert [session.ended for session in target.sessions] == ["closed"]


async def test_tree_then_run_to_the_end(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0, 1])])
    outcome = await _run(target, draft, _job(spec, speculate=True))
    # After the tree the exact beams stand on level 3, below which nothing is worth drafting.
    assert target.log == [("open", 0), ("CandidateTree", 1), ("RunToEnd", 3)]
    assert (outcome.rounds, outcome.drafted_nodes, outcome.flags) == (1, 2, ())
    assert draft.sessions[0].ended == "closed"


async def test_fat_levels_are_drafted_again_after_a_miss(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    job = _job(spec, speculate=True, fan_outs=(50.0, 50.0, 50.0, 50.0, 2.0))
    outcome = await _run(target, draft, job)
    assert [name for name, _ in target.log] == ["open", "CandidateTree", "CandidateTree"]
    assert (outcome.rounds, draft.sessions[0].proposals) == (2, 2)


async def test_thin_levels_may_be_planned_but_no_model_is_asked_for_them(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    planning = fakes.FakeCandidates(speaks=True, plans=True)
    job = _job(spec, fan_outs=(9.0, 2.0, 2.0, 2.0), candidates=planning)
    outcome = await _run(target, draft, job)
    assert target.log == [("open", 0), ("CandidateTree", 1), ("PlainSteps", 3)]
    assert (outcome.rounds, draft.sessions[0].proposals) == (1, 0)


async def test_thin_trie_needs_no_draft(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [])
    outcome = await _run(target, draft, _job(spec, speculate=True, fan_outs=(9.0, 2.0, 2.0, 2.0)))
    assert [name for name, _ in target.log] == ["open", "RunToEnd"]
    assert outcome.flags == ()
    # The session was opened for nothing: it is not left waiting.
    assert draft.sessions[0].ended == "cancelled"


async def test_without_a_draft_service(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    outcome = await _run(target, None, _job(spec, speculate=True))
    assert target.log == [("open", 0), ("then RunToEnd", 1)]
    # Nobody was wanted and missed.
    assert (outcome.flags, outcome.beams.level) == ((), 4)


async def test_other_drafters_do_without_a_draft_service(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    job = _job(spec, candidates=fakes.FakeCandidates(speaks=True))
    outcome = await _run(target, None, job)
    assert target.log == [("open", 0), ("CandidateTree", 1), ("RunToEnd", 3)]
    assert (outcome.flags, outcome.rounds, outcome.drafted_nodes) == ((), 1, 1)


async def test_other_drafters_go_on_when_the_draft_service_fails(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [], opening=DraftFailed("gone"))
    outcome = await _run(target, draft, _job(spec, candidates=fakes.FakeCandidates(speaks=True)))
    assert [name for name, _ in target.log] == ["open", "CandidateTree", "RunToEnd"]
    assert outcome.flags == (Flag.NO_DRAFT,)


async def test_draft_service_that_is_not_wanted_is_not_asked(spec: SessionSpec) -> None:
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    outcome = await _run(fakes.FakeTarget(), draft, _job(spec, use_model=False))
    assert (outcome.flags, outcome.rounds, draft.sessions) == ((), 0, [])


async def test_one_pass_sends_the_tree_with_the_prompt(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    outcome = await _run(target, draft, _job(spec, flow=Flow.ONE_PASS))
    assert target.log == [("open", 0), ("with CandidateTree", 0), ("RunToEnd", 2)]
    assert (outcome.flow, outcome.rounds, outcome.beams.level) == (Flow.ONE_PASS, 1, 4)


async def test_one_pass_without_a_tree_is_a_plain_search(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    outcome = await _run(target, None, _job(spec, flow=Flow.ONE_PASS))
    assert target.log == [("open", 0), ("then RunToEnd", 1)]
    assert outcome.rounds == 0


async def test_one_pass_that_lost_its_session_goes_on(spec: SessionSpec, lost: SessionLost) -> None:
    target = fakes.FakeTarget(faults=[lost])
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    outcome = await _run(target, draft, _job(spec, flow=Flow.ONE_PASS))
    assert target.log[:4] == [("open", 0), ("with CandidateTree", 0)] * 2
    assert outcome.beams.level == 4


@pytest.mark.parametrize("where", ["open", "propose"])
async def test_draft_that_fails(spec: SessionSpec, where: str) -> None:
    opening = DraftFailed("gone") if where == "open" else None
    draft = fakes.FakeDraft(lambda b: [], opening=opening)
    breaker = Breaker(failures=2, open_s=60)
    for _ in range(3):
        job = _job(spec, speculate=True)
        outcome = await _run(fakes.FakeTarget(), draft, job, breaker=breaker)
        assert (outcome.flags, outcome.beams.level) == ((Flag.NO_DRAFT,), 4)
    # The breaker left it alone the third time.
    assert len(draft.sessions) == 2
    assert {session.ended for session in draft.sessions} == {"cancelled"}


async def test_slow_draft_is_cancelled(spec: SessionSpec) -> None:
    draft = fakes.FakeDraft(lambda b: [])

    async def never() -> None:
        await asyncio.Event().wait()

    session = draft.session(1.0)
    session.level = never
    draft.session = lambda timeout_s: session
    outcome = await _run(fakes.FakeTarget(), draft, _job(spec, speculate=True), timeout_ms=20)
    assert outcome.flags == (Flag.DRAFT_SLOW,)
    assert 15 < outcome.draft_ms < 400
    assert (session.ended, outcome.beams.level) == ("cancelled", 4)


async def test_lost_session_is_resumed_from_the_last_exact_beams(
    spec: SessionSpec, lost: SessionLost
) -> None:
    target = fakes.FakeTarget(faults=[None, lost])
    draft = fakes.FakeDraft(lambda b: [fakes.drafted(b.level, b.level + 1, [0])])
    outcome = await _run(target, draft, _job(spec, speculate=True))
    assert target.log[2:4] == [("open", 1), ("CandidateTree", 1)]
    assert (outcome.beams.level, outcome.rounds) == (4, 1)
    assert [session.ended for session in target.sessions] == ["cancelled", "closed"]


async def test_plain_search_starts_again_elsewhere(spec: SessionSpec) -> None:
    lost = SessionLost("UNAVAILABLE: gone", connected=True)
    away = SessionLost("UNAVAILABLE: nobody there")
    target = fakes.FakeTarget(faults=[lost, away, away])
    outcome = await _run(target, None, _job(spec, speculate=False))
    assert target.log[-2:] == [("open", 0), ("then PlainSteps", 1)]
    assert outcome.beams.level == 4


async def test_session_ended_before_its_deadline_is_resumed(spec: SessionSpec) -> None:
    target = fakes.FakeTarget(faults=[None, DeadlineSpent()])
    outcome = await _run(target, None, _job(spec, speculate=False))
    assert outcome.beams.level == 4


async def test_target_that_is_not_there_fails_soon(spec: SessionSpec, lost: SessionLost) -> None:
    started = time.monotonic()
    with pytest.raises(TargetUnavailable):
        await _run(fakes.FakeTarget(faults=[lost] * 99), None, _job(spec, speculate=False))
    assert time.monotonic() - started < 0.5


async def test_target_that_keeps_dying_is_given_up(spec: SessionSpec) -> None:
    target = fakes.FakeTarget(faults=[SessionLost("gone", connected=True)] * 9)
    with pytest.raises(TargetUnavailable):
        await _run(target, None, _job(spec, speculate=False))
    assert len(target.sessions) == 3


async def test_no_time_left(spec: SessionSpec) -> None:
    with pytest.raises(DeadlineSpent):
        await _run(fakes.FakeTarget(), None, _job(spec, speculate=False, left_s=0.0))


async def test_refusals_pass_through(spec: SessionSpec) -> None:
    with pytest.raises(Overloaded):
        await _run(fakes.FakeTarget(faults=[Overloaded()]), None, _job(spec, speculate=False))


async def test_target_that_does_not_move_is_an_error(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    session = target.session(1.0)
    session._settle = lambda level, rows: TargetTurn(fakes.beams(1), False)
    target.session = lambda timeout_s: session
    with pytest.raises(Internal):
        await _run(target, None, _job(spec, speculate=False))


async def test_cancelled_request_cancels_both_sessions(spec: SessionSpec) -> None:
    target = fakes.FakeTarget()
    draft = fakes.FakeDraft(lambda b: [])
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    session = draft.session(1.0)
    session.level = never
    draft.session = lambda timeout_s: session
    task = asyncio.create_task(_run(target, draft, _job(spec, speculate=True)))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (session.ended, target.sessions[0].ended) == ("cancelled", "cancelled")
