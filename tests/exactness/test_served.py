"""Through the running services, with and without speculation, the answer is the reference's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from specbeam.client_types import Interaction, Recommendation
from specbeam.decoding.reference import ReferenceItem, reference_beam_search
from tests.bundles import exact_norms, tiny_bundle
from tests.exactness.models import whole_prefix_logprobs
from tests.stack import Stack, running

CASES = 60


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    with exact_norms():
        async with running(tiny_bundle()) as served:
            yield served


class Reference:
    """The slow beam search on the bundle's own checkpoint, with transformers' attention."""

    def __init__(self, stack: Stack) -> None:
        self._bundle = stack.bundle
        trie = stack.bundle.trie
        numbers = np.arange(trie.num_items)
        ids = [trie.item_id(int(n)) for n in numbers]
        self.paths = dict(zip(ids, map(tuple, trie.paths(numbers).tolist()), strict=True))
        self.popularity = dict(zip(ids, trie.popularity.tolist(), strict=True))
        model = AutoModelForCausalLM.from_pretrained(
            str(stack.bundle.target_dir), dtype=torch.float64, attn_implementation="sdpa"
        )
        self._law = whole_prefix_logprobs(model.eval())

    def answer(
        self, history: list[str], k: int, width: int, excluded: set[str]
    ) -> list[ReferenceItem]:
        prompt = [1, *(token for item in history for token in self.paths[item])]
        return reference_beam_search(
            self.paths, self.popularity, prompt, self._law, width, k, excluded
        )


async def test_served_answers_equal_the_reference(stack: Stack) -> None:
    reference = Reference(stack)
    ids = sorted(reference.paths)
    rng = np.random.default_rng(11)
    speculated = 0
    for _ in range(CASES):
        history = [str(item) for item in rng.choice(ids, int(rng.integers(1, 30)))]
        k = int(rng.choice([1, 2, 5, 10, 20, 50]))
        width = k + int(rng.choice([0, 0, 3, 10]))
        share = float(rng.choice([0.0, 0.1, 0.9]))
        excluded = [item for item in ids if rng.random() < share]
        want = reference.answer(history, k, width, {*excluded, *history})
        for way in ("off", "on"):
            answer = await stack.client.recommend(
                events=[Interaction(item) for item in history],
                num_items=k,
                beam_width=width,
                max_rows=max(width, int(rng.choice([16, 64, 128]))),
                exclude_history=True,
                exclude_item_ids=excluded,
                speculation="on" if way == "on" else "off",
            )
            check(answer, want)
            assert answer.work.speculation_used == (way == "on")
            speculated += answer.work.drafted_nodes > 0
    assert speculated > CASES / 2
    await stack.until_slots_are_back()


def check(answer: Recommendation, want: list[ReferenceItem]) -> None:
    assert [item.item_id for item in answer.items] == [item.item_id for item in want]
    assert [item.tokens for item in answer.items] == [item.path for item in want]
    np.testing.assert_allclose(
        [item.score for item in answer.items], [item.score for item in want], rtol=0, atol=1e-9
    )
    assert answer.degraded == ()
