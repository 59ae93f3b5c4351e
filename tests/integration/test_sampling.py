"""Sampling modes through the whole stack: laws, seeds, labels, and what is refused."""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from specbeam.client import InvalidRequestError, Recommendation
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import Selection
from specbeam.engine import BeamSession, ModelRunner, RunnerConfig, SearchModel
from tests.bundles import tiny_bundle
from tests.stack import Stack, running

BUNDLE = tiny_bundle(score_kind="VOCAB")
HISTORY = ("item-0003", "item-0014", "item-0015")


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with running(BUNDLE) as found:
        yield found


async def _ask(stack: Stack, **options: Any) -> Recommendation:
    from specbeam.client import Interaction

    events = [Interaction(item) for item in HISTORY]
    defaults: dict[str, Any] = {"num_items": 4, "mode": "exact_sampling", "seed": 11}
    return await stack.client.recommend("", events=events, **(defaults | options))


def _drawn(answer: Recommendation) -> list[tuple[str, float, float]]:
    return [(item.item_id, item.score, item.rank_value) for item in answer.items]


def _plainly(seed: int, width: int, temperature: float = 1.0, top_k: int = 0) -> list[Any]:
    """Stochastic beam search in this process, without any service."""
    config = RunnerConfig("cpu", "fp64", 1, BUNDLE.max_prompt_tokens, 1024)
    runner = ModelRunner.load(BUNDLE.target_dir, config)
    model = SearchModel.of(runner, BUNDLE.trie, Scoring("TRIE"))
    trie = BUNDLE.trie
    history = trie.index_of(HISTORY)
    prompt = BUNDLE.template.render(trie.paths(history))
    selection = Selection("GUMBEL", seed, temperature, top_k)
    with closing(BeamSession(model, width, selection=selection)) as session:
        session.open(prompt)
        while not session.finished:
            session.plain_step()
        beams = session.beams
    order = np.argsort(-beams.rank_values)
    return [(int(beams.nodes[i]), beams.scores[i], beams.rank_values[i]) for i in order]


@pytest.mark.parametrize("options", [{}, {"temperature": 2.5}, {"top_k": 3, "temperature": 0.5}])
async def test_items_are_those_of_stochastic_beam_search(
    stack: Stack, options: dict[str, Any]
) -> None:
    answer = await _ask(stack, exclude_history=False, **options)
    want = _plainly(11, 4, **options)
    np.testing.assert_allclose([i.score for i in answer.items], [s for _, s, _ in want], atol=1e-9)
    np.testing.assert_allclose(
        [i.rank_value for i in answer.items], [r for _, _, r in want], atol=1e-9
    )
    assert (answer.mode, answer.seed) == ("exact_sampling", 11)
    assert {item.score_kind for item in answer.items} == {"trie"}


async def test_the_same_seed_draws_the_same_items_however_they_are_searched(stack: Stack) -> None:
    for seed in range(12):
        answers = [
            await _ask(stack, seed=seed, **options)
            for options in (
                {"speculation": "off"},
                {"speculation": "on"},
                {"speculation": "on", "max_rows": 6},
                {"speculation": "auto"},
                {"speculation": "on", "beam_width": 9},
            )
        ]
        want = _drawn(answers[0])
        for answer in answers[1:]:
            found = _drawn(answer)
            assert [item for item, _, _ in found] == [item for item, _, _ in want]
            np.testing.assert_allclose(
                [values[1:] for values in found], [values[1:] for values in want], atol=1e-9
            )


async def test_seeds_differ_and_are_told(stack: Stack) -> None:
    answers = [await _ask(stack, seed=None) for _ in range(8)]
    assert len({tuple(item.item_id for item in answer.items) for answer in answers}) > 4
    first = await _ask(stack, seed=None, temperature=1.3)
    assert first.seed is not None
    again = await _ask(stack, seed=first.seed, temperature=1.3)
    assert _drawn(again) == _drawn(first)


async def test_filters_hold_in_draws(stack: Stack) -> None:
    every = await _ask(stack, num_items=10, exclude_history=False)
    banned = [item.item_id for item in every.items[:3]]
    for speculation in ("on", "off"):
        answer = await _ask(stack, exclude_item_ids=banned, speculation=speculation)
        assert not {item.item_id for item in answer.items} & set(banned)


async def test_relaxed_answers_say_so_and_repeat(stack: Stack) -> None:
    answers = [
        await _ask(stack, mode="relaxed_sampling", seed=5, draft_width=8, speculation="on")
        for _ in range(2)
    ]
    assert {answer.mode for answer in answers} == {"relaxed_sampling"}
    assert _drawn(answers[0]) == _drawn(answers[1])
    items = [item.item_id for item in answers[0].items]
    assert len(set(items)) == 4
    plain = await _ask(stack, mode="relaxed_sampling", seed=5, speculation="off")
    assert len({item.item_id for item in plain.items}) == 4


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"mode": "exact_topk", "temperature": 2.0, "seed": None}, "sampling"),
        ({"mode": "exact_topk", "seed": 3}, "seed"),
        ({"temperature": 0.0}, "sampling.temperature"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"temperature": 101.0}, "sampling.temperature"),
        ({"draft_width": 8}, "sampling.draft_width"),
        ({"mode": "relaxed_sampling", "draft_width": 2}, "sampling.draft_width"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    stack: Stack, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await _ask(stack, **options)
    assert field in {violation.field for violation in caught.value.violations}
