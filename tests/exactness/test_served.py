"""Through the running services, with and without speculation, the answer is the reference's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from specbeam.client_types import Interaction, Recommendation
from specbeam.decoding.reference import (
    PAD,
    CatalogItem,
    PlainFilter,
    ReferenceItem,
    ReferenceSpec,
    reference_beam_search,
)
from tests.bundles import exact_norms, tiny_bundle
from tests.exactness.models import WholePrefixes
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
        trie = stack.bundle.trie
        numbers = np.arange(trie.num_items)
        paths = trie.paths(numbers).tolist()
        self.catalog = {
            trie.item_id(int(number)): CatalogItem(
                tuple(path[: path.index(PAD)] if PAD in path else path),
                int(trie.popularity[number]),
            )
            for number, path in zip(numbers, paths, strict=True)
        }
        model = AutoModelForCausalLM.from_pretrained(
            str(stack.bundle.target_dir), dtype=torch.float64, attn_implementation="sdpa"
        )
        self._law = WholePrefixes(model.eval())

    def answer(
        self, history: list[str], k: int, width: int, item_filter: PlainFilter
    ) -> tuple[ReferenceItem, ...]:
        prompt = [1, *(token for item in history for token in self.catalog[item].path)]
        spec = ReferenceSpec(prompt, width, k, item_filter=item_filter)
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
        excluded = _share(rng, ids, [0.0, 0.1, 0.9])
        allowed = _share(rng, ids, [0.02, 0.3, 1.0]) if rng.random() < 0.4 else None
        item_filter = PlainFilter(
            frozenset([*excluded, *history]), None if allowed is None else frozenset(allowed)
        )
        want = reference.answer(history, k, width, item_filter)
        for way in ("off", "on"):
            answer = await stack.client.recommend(
                events=[Interaction(item) for item in history],
                num_items=k,
                beam_width=width,
                max_rows=max(width, int(rng.choice([16, 64, 128]))),
                exclude_history=True,
                exclude_item_ids=excluded,
                **({} if not allowed else {"allow_item_ids": allowed}),
                speculation="on" if way == "on" else "off",
            )
            check(answer, want)
            # Where nothing is allowed the search ends at the root.
            assert answer.work.speculation_used == (way == "on" and len(want) > 0)
            speculated += answer.work.drafted_nodes > 0
    assert speculated > CASES / 2
    await stack.until_slots_are_back()


def _share(rng: np.random.Generator, ids: list[str], shares: list[float]) -> list[str]:
    share = float(rng.choice(shares))
    return [item for item in ids if rng.random() < share]


def check(answer: Recommendation, want: Sequence[ReferenceItem]) -> None:
    assert [item.item_id for item in answer.items] == [item.item_id for item in want]
    assert [item.tokens for item in answer.items] == [item.path for item in want]
    np.testing.assert_allclose(
        [item.score for item in answer.items], [item.score for item in want], rtol=0, atol=1e-9
    )
    assert answer.degraded == ()
