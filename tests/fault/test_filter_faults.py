"""Filters while services fail or lie: no forbidden item, and the answer stays exact."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from specbeam.bundle import Bundle
from specbeam.client import Interaction
from specbeam.draft.v1alpha1 import draft_service_pb2 as pb
from specbeam.runtime.session_tokens import decode_tokens, encode_tokens
from target_service.app import start_app as start_target
from tests.bundles import ItemFacts, exact_norms, tiny_bundle
from tests.fault.test_draft_faults import faulty_draft
from tests.stack import Oracle, running, target_settings

HISTORY = [f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35)]
FILTER: dict[str, Any] = {"required_tags": [["third", "quarter"]], "exclude_history": True}


def allowed(item: ItemFacts) -> bool:
    return bool(item.tags & {"third", "quarter"})


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module", params=["VOCAB", "TRIE"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return tiny_bundle(facts=True, texts=True, item_length=5, score_kind=request.param)


def children_of(bundle: Bundle, propose: pb.Propose) -> pb.DraftResponse:
    """The first children of every beam, whatever the filter says."""
    beams, trie = propose.beams, bundle.trie
    paths = decode_tokens(beams.tokens).reshape(len(beams.scores), beams.level)
    nodes = trie.find(paths)
    above, below = trie.levels[beams.level], trie.levels[beams.level + 1]
    first = np.asarray(above.first_child_of(nodes))
    sizes = np.minimum(np.asarray(above.first_child_of(nodes + 1)) - first, 3)
    parents = np.repeat(np.arange(len(nodes)), sizes)[: propose.max_nodes]
    slots = np.concatenate([np.arange(size) for size in sizes])[: propose.max_nodes]
    return pb.DraftResponse(
        level=pb.DraftedLevel(
            base_level=beams.level,
            level=beams.level + 1,
            parents=parents.tolist(),
            tokens=encode_tokens(below.tokens_of(first[parents] + slots)),
            last=True,
        )
    )


async def test_a_draft_that_ignores_the_filter_lets_nothing_through(bundle: Bundle) -> None:
    async def answer(propose: pb.Propose) -> AsyncIterator[pb.DraftResponse]:
        yield children_of(bundle, propose)

    oracle = Oracle(bundle)
    async with faulty_draft(answer) as (draft, _), running(bundle, draft=draft) as stack:
        for width in (10, 25):
            found = await stack.client.recommend(
                events=[Interaction(item) for item in HISTORY],
                beam_width=width,
                speculation="on",
                **FILTER,
            )
            expected = oracle.rank(HISTORY, 10, allowed=allowed, excluded=HISTORY, beam_width=width)
            oracle.check(found, expected)
            assert found.work.drafted_nodes > 0 and found.degraded == ()


async def test_a_target_that_restarts_goes_on_under_the_same_filter(bundle: Bundle) -> None:
    first = await start_target(target_settings(bundle))
    second = []

    async def answer(propose: pb.Propose) -> AsyncIterator[pb.DraftResponse]:
        if not second:
            await first.stop()
            second.append(await start_target(target_settings(bundle, first.port)))
        yield children_of(bundle, propose)

    oracle = Oracle(bundle)
    async with (
        faulty_draft(answer) as (draft, _),
        running(bundle, draft=draft, target=f"127.0.0.1:{first.port}") as stack,
    ):
        found = await stack.client.recommend(
            events=[Interaction(item) for item in HISTORY], speculation="on", **FILTER
        )
        oracle.check(found, oracle.rank(HISTORY, 10, allowed=allowed, excluded=HISTORY))
        assert found.work.prompt_rows == 2 * found.work.prompt_tokens
    await second[0].stop()
