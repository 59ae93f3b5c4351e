"""All three services on loopback, in this process, for tests of whole requests."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from draft_service.app import start_app as start_draft
from draft_service.settings import DraftSettings
from orchestrator.app import start_app as start_orchestrator
from orchestrator.settings import OrchestratorSettings
from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie, pad_paths, rank_items
from specbeam.client import Recommendation, RecommendClient
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.search import SearchSpec, plain_search
from specbeam.model_service.loading import scoring_of
from specbeam.runtime.channel import create_channel
from specbeam.runtime.lifecycle import ServiceApp
from specbeam.target.v1alpha1 import target_service_pb2
from specbeam.target.v1alpha1.target_service_pb2_grpc import TargetServiceStub
from target_service.app import start_app as start_target
from target_service.settings import TargetSettings
from tests.bundles import ItemFacts, item_facts
from tests.waiting import until


def target_settings(bundle: Bundle, port: int = 0) -> TargetSettings:
    return TargetSettings(
        bundle=bundle.path, port=port, dtype="fp64", threads=1, slots=4, warm_up_s=0, grace_s=0
    )


@dataclass(slots=True)
class Stack:
    bundle: Bundle
    target: ServiceApp
    orchestrator: ServiceApp
    client: RecommendClient

    async def slots_free(self) -> int:
        async with create_channel(f"127.0.0.1:{self.target.port}") as channel:
            request = target_service_pb2.GetInfoRequest()
            info = await TargetServiceStub(channel).GetInfo(request, timeout=5)
        return int(info.slots_free)

    async def until_slots_are_back(self) -> None:
        await until(lambda: self.slots_free(), 4)


@asynccontextmanager
async def running(
    bundle: Bundle, *, draft: bool | str = True, target: str = "", **settings: Any
) -> AsyncIterator[Stack]:
    """Run the services.

    Args:
        bundle: What to serve.
        draft: Whether to run a draft service, or the address of another one.
        target: Address of another target service.
        settings: Of the orchestrator.
    """
    async with AsyncExitStack() as stack:
        served = await start_target(target_settings(bundle))
        stack.push_async_callback(served.stop)
        address = draft if isinstance(draft, str) else ""
        if draft is True:
            app = await start_draft(
                DraftSettings(
                    bundle=bundle.path, port=0, dtype="fp64", threads=1, warm_up_s=0, grace_s=0
                )
            )
            stack.push_async_callback(app.stop)
            address = f"127.0.0.1:{app.port}"
        defaults: dict[str, Any] = {
            "bundle": (str(bundle.path),),
            "port": 0,
            "target_address": target or f"127.0.0.1:{served.port}",
            "draft_address": address,
            "draft_timeout_ms": 5000,
            "poll_interval_s": 0.2,
            "grace_s": 0,
        }
        orchestrator = await start_orchestrator(OrchestratorSettings(**(defaults | settings)))
        stack.push_async_callback(orchestrator.stop)
        client = await stack.enter_async_context(
            RecommendClient(f"127.0.0.1:{orchestrator.port}", timeout_s=20)
        )
        yield Stack(bundle, served, orchestrator, client)


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer there should be, best item first."""

    items: tuple[ItemFacts, ...]
    scores: np.ndarray
    exhausted: bool


class Oracle:
    """Answers by plain search in this process, over a catalogue of the allowed items alone.

    The filter is applied item by item before there is a trie: what is compared shares nothing with
    the filters of the services.
    """

    def __init__(self, bundle: Bundle) -> None:
        torch.set_num_threads(1)
        self._bundle = bundle
        self._facts = item_facts(bundle)
        config = RunnerConfig(
            device="cpu",
            dtype="fp64",
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=1024,
        )
        self._runner = ModelRunner.load(bundle.target_dir, config)
        # The codes of a level are those of the whole catalogue, whatever is allowed.
        levels = range(1, bundle.trie.depth + 1)
        used = tuple(bundle.trie.level_tokens(level) for level in levels)
        scoring = scoring_of(bundle.manifest)
        self._scoring = replace(scoring, codebooks=scoring.codebooks or used)

    def rank(
        self,
        history: Sequence[str],
        num_items: int,
        *,
        excluded: Sequence[str] = (),
        allowed: Callable[[ItemFacts], bool] | None = None,
        beam_width: int = 0,
    ) -> Expected:
        trie, without = self._bundle.trie, set(excluded)
        kept = [
            item
            for item in self._facts
            if item.item_id not in without and (allowed is None or allowed(item))
        ]
        if not kept:
            return Expected((), np.zeros(0), exhausted=True)
        prompt = self._bundle.template.render(trie.paths(trie.index_of(history)))
        width = beam_width or max(num_items, self._bundle.manifest.default_beam_width)
        search = self._over(kept)
        catalogue = search.expansion.trie
        beams = plain_search(search, SearchSpec(prompt, width)).beams
        ranked = rank_items(catalogue, beams.nodes, beams.scores, num_items)
        by_id = {item.item_id: item for item in kept}
        ids = [catalogue.item_id(int(item)) for item in ranked.items]
        return Expected(tuple(by_id[i] for i in ids), ranked.scores, ranked.exhausted)

    def _over(self, kept: Sequence[ItemFacts]) -> SearchModel:
        """The target over a catalogue of some items."""
        catalogue = ItemTrie.build(
            pad_paths([item.tokens for item in kept]),
            [item.item_id for item in kept],
            np.array([item.popularity for item in kept]),
        )
        return SearchModel.of(self._runner, catalogue, self._scoring)

    def check(self, answer: Recommendation, expected: Expected) -> None:
        assert [item.item_id for item in answer.items] == [i.item_id for i in expected.items]
        assert [item.tokens for item in answer.items] == [i.tokens for i in expected.items]
        scores = [item.score for item in answer.items]
        np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-9)
        assert [item.rank_value for item in answer.items] == scores
        assert [item.verified_rank for item in answer.items] == list(range(len(scores)))
        assert answer.exhausted == expected.exhausted
        kind = self._bundle.manifest.score_kind.lower()
        assert {item.score_kind for item in answer.items} <= {kind}
