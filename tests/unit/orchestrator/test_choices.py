"""Choosing: the breaker, draft shapes, proposals."""

import time

import numpy as np
import pytest

from orchestrator.advice import prompt_bucket
from orchestrator.breaker import Breaker
from orchestrator.budget import draft_timeout_s
from orchestrator.drafting import Proposal
from orchestrator.ports import DraftedLevel, DraftInvalid
from specbeam.catalog import PAD
from specbeam.decoding.shape import DraftShape
from specbeam.runtime.deadlines import CallBudget
from tests.orchestrator_fakes import beams, drafted


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_prompts_are_told_apart_by_length() -> None:
    assert [prompt_bucket(n) for n in (1, 48, 49, 128, 129, 400)] == [0, 0, 1, 1, 2, 3]


def test_breaker_opens_probes_and_closes(clock: Clock) -> None:
    breaker = Breaker(failures=2, open_s=1.0, clock=clock)
    for _ in range(2):
        assert breaker.allow()
        breaker.failed()
    assert not breaker.allow()
    clock.now = 1.1
    assert breaker.allow()
    assert not breaker.allow()  # one probe at a time
    breaker.failed()
    clock.now = 2.0
    assert not breaker.allow()
    clock.now = 2.2
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.allow() and breaker.allow()


def test_draft_timeout_is_a_share_of_the_deadline() -> None:
    budget = CallBudget(time.monotonic() + 1.0)
    assert draft_timeout_s(budget, 50) == pytest.approx(0.05)
    assert 0.2 < draft_timeout_s(budget, 5000) <= 0.25


def _proposal(levels: int = 2, width: int = 3) -> Proposal:
    return Proposal(beams(1, width), DraftShape(levels, 4), width, vocab_size=100)


def test_levels_become_one_tree() -> None:
    proposal = _proposal()
    proposal.add(drafted(1, 2, [0, 2, 2], last=False))
    proposal.add(drafted(1, 3, [3, 5], token=7))
    tree = proposal.tree()
    assert tree.base_level == 1
    assert tree.parents.tolist() == [0, 2, 2, 3, 5]
    assert tree.tokens.tolist() == [5, 5, 5, 7, 7]


def test_padding_below_a_whole_item_is_part_of_a_tree() -> None:
    proposal = _proposal()
    proposal.add(drafted(1, 2, [0, 1], token=PAD))
    assert proposal.tree().tokens.tolist() == [PAD, PAD]


def test_empty_last_level_ends_a_proposal() -> None:
    proposal = _proposal()
    proposal.add(drafted(1, 2, [0], last=False))
    proposal.add(drafted(1, 2, []))
    assert len(proposal.tree()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        drafted(2, 3, [0]),
        drafted(1, 3, [0]),
        drafted(1, 2, [3]),
        drafted(1, 2, [-1]),
        drafted(1, 2, [0] * 5),
        drafted(1, 2, [0], token=100),
        DraftedLevel(1, 2, np.array([0, 1]), np.array([5]), True),
        DraftedLevel(1, 2, np.array([0]), np.array([5]), True, forward_ms=float("inf")),
    ],
)
def test_broken_levels_are_refused(wrong: DraftedLevel) -> None:
    with pytest.raises(DraftInvalid):
        _proposal().add(wrong)


def test_second_level_must_hang_from_the_first() -> None:
    proposal = _proposal()
    proposal.add(drafted(1, 2, [0, 1], last=False))
    with pytest.raises(DraftInvalid):
        proposal.add(drafted(1, 3, [2]))
