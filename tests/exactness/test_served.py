"""Through the running services, with and without speculation, the answer is the reference's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from specbeam.client_types import Interaction, Recommendation
from specbeam.decoding.reference import (
    HOUR_MS,
    CatalogItem,
    PlainFilter,
    ReferenceItem,
    ReferenceSpec,
    reference_beam_search,
)
from tests.bundles import FIRST_TIME_S, exact_norms, item_facts, tiny_bundle
from tests.exactness.models import WholePrefixes
from tests.stack import Stack, running

CASES = 24
TAGS = ("half", "third", "quarter", "nine")


@pytest.fixture(
    scope="module",
    params=[
        ("VOCAB", False),
        ("LEVEL", False),
        ("TRIE", False),
        ("VOCAB", True),
        ("LEVEL", True),
        ("TRIE", True),
    ],
    ids=lambda param: f"{param[0]}-{'texts' if param[1] else 'codes'}",
)
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    score_kind, texts = request.param
    with exact_norms():
        bundle = tiny_bundle(facts=True, score_kind=score_kind, texts=texts, seed=1)
        async with running(bundle) as served:
            yield served


class Reference:
    """The slow beam search on the bundle's own checkpoint, with transformers' attention."""

    def __init__(self, stack: Stack) -> None:
        bundle = stack.bundle
        self.catalog = {
            item.item_id: CatalogItem(item.tokens, item.popularity, item.tags, item.created_at_ms)
            for item in item_facts(bundle)
        }
        self._convention: Any = bundle.manifest.score_kind
        books = [
            [token for first, size in level.ranges for token in range(first, first + size)]
            for level in bundle.manifest.levels
        ]
        self._codebooks = books or None
        model = AutoModelForCausalLM.from_pretrained(
            str(bundle.target_dir), dtype=torch.float64, attn_implementation="sdpa"
        )
        self._law = WholePrefixes(model.eval())

    def answer(
        self, history: Sequence[str], k: int, width: int, item_filter: PlainFilter
    ) -> tuple[ReferenceItem, ...]:
        prompt = [1, *(token for item in history for token in self.catalog[item].path)]
        spec = ReferenceSpec(prompt, width, k, self._convention, self._codebooks, item_filter)
        return reference_beam_search(self.catalog, spec, self._law).items


async def test_served_answers_equal_the_reference(stack: Stack) -> None:
    reference = Reference(stack)
    ids = sorted(reference.catalog)
    rng = np.random.default_rng(11)
    speculated = 0
    for _ in range(CASES):
        history = [str(item) for item in rng.choice(ids, int(rng.integers(1, 30)))]
        k = int(rng.choice([1, 2, 5, 10, 20, 50]))
        width = k + int(rng.choice([0, 0, 3, 10]))
        item_filter = random_filter(rng, ids)
        want = reference.answer(history, k, width, with_history(item_filter, history))
        for speculation in ("off", "on"):
            answer = await stack.client.recommend(
                events=[Interaction(item) for item in history],
                num_items=k,
                beam_width=width,
                max_rows=max(width, int(rng.choice([16, 64, 128]))),
                exclude_history=True,
                speculation=speculation,
                **as_options(item_filter),
            )
            check(answer, want, k)
            # Nothing is drafted for where the root decides everything.
            assert speculation == "on" or not answer.work.speculation_used
            speculated += answer.work.drafted_nodes > 0
    assert speculated > CASES / 4
    await stack.until_slots_are_back()


def random_filter(rng: np.random.Generator, ids: Sequence[str]) -> PlainFilter:
    """Each kind or none, alone and with others."""

    def some(shares: Sequence[float]) -> frozenset[str]:
        share = float(rng.choice(shares))
        return frozenset(item for item in ids if rng.random() < share)

    clauses = tuple(
        tuple(str(tag) for tag in rng.choice(TAGS, int(rng.integers(1, 3))))
        for _ in range(int(rng.integers(1, 3)))
    )
    since = 1000 * FIRST_TIME_S + int(rng.integers(-50, 600)) * HOUR_MS + int(rng.integers(3))
    # At least one item must be allowed on the wire.
    allowed = some([0.02, 0.3, 1.0]) | {str(rng.choice(ids))}
    return PlainFilter(
        excluded=some([0.0, 0.1, 0.9]) if rng.random() < 0.5 else frozenset(),
        allowed=allowed if rng.random() < 0.3 else None,
        required_tags=clauses if rng.random() < 0.4 else (),
        created_after_ms=since if rng.random() < 0.4 else None,
    )


def with_history(item_filter: PlainFilter, history: Sequence[str]) -> PlainFilter:
    return PlainFilter(
        frozenset([*item_filter.excluded, *history]),
        item_filter.allowed,
        item_filter.required_tags,
        item_filter.created_after_ms,
    )


def as_options(item_filter: PlainFilter) -> dict[str, Any]:
    """The filter as the client takes it."""
    return {
        "exclude_item_ids": sorted(item_filter.excluded),
        "allow_item_ids": None if item_filter.allowed is None else sorted(item_filter.allowed),
        "required_tags": item_filter.required_tags,
        "created_after": item_filter.created_after_ms,
    }


def check(answer: Recommendation, want: Sequence[ReferenceItem], num_items: int) -> None:
    assert [item.item_id for item in answer.items] == [item.item_id for item in want]
    assert [item.tokens for item in answer.items] == [item.path for item in want]
    np.testing.assert_allclose(
        [item.score for item in answer.items], [item.score for item in want], rtol=0, atol=1e-9
    )
    assert answer.exhausted == (len(want) < num_items)
    assert answer.degraded == ()
