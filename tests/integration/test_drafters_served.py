"""Every drafter behind whole requests, alone and together; the answers stay the target's own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from specbeam.bundle import Bundle
from specbeam.bundle.neighbours import NeighbourTable, save_neighbours
from specbeam.bundle.rewriting import with_drafter
from specbeam.client import Interaction, Recommendation
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig, save_root_head
from tests.bundles import exact_norms, tiny_bundle
from tests.stack import Oracle, Stack, running

pytestmark = pytest.mark.slow

HISTORY = tuple(f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35))


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a model, a head and a table of neighbours, all of them random."""
    directory: Path = tmp_path_factory.mktemp("drafters")
    whole = tiny_bundle()
    _save_head(whole, directory / "head")
    rng = np.random.default_rng(0)
    offsets = np.arange(whole.trie.num_items + 1) * 3
    table = NeighbourTable(
        offsets,
        rng.integers(0, whole.trie.num_items, offsets[-1]).astype(np.int32),
        rng.integers(1, 65536, offsets[-1]).astype(np.uint16),
    )
    save_neighbours(table, directory / "neighbours", whole.trie, {})
    path = directory / "bundle"
    with_head = with_drafter(whole, path, "head", directory / "head")
    return with_drafter(with_head, path, "cooccurrence", directory / "neighbours")


def _save_head(bundle: Bundle, directory: Path) -> None:
    model = AutoConfig.from_pretrained(str(bundle.target_dir))
    torch.manual_seed(0)
    blocks = StateBlocks(model.hidden_size, 4, bundle.trie.depth - 2)
    fingerprint = bundle.manifest.fingerprints.model
    directory.mkdir()
    shape = RootHeadConfig(
        model.hidden_size, model.vocab_size, bundle.trie.depth - 1, 4, fingerprint
    )
    save_root_head(directory, shape, blocks)


async def _ask(stack: Stack) -> Recommendation:
    return await stack.client.recommend(
        events=[Interaction(item) for item in HISTORY],
        num_items=5,
        speculation="on",
        debug=True,
    )


@pytest.mark.parametrize("flow", ["root-first", "one-pass"])
@pytest.mark.parametrize(
    "drafters",
    [("model",), ("head",), ("cooccurrence", "popularity"), ("model", "head", "cooccurrence")],
    ids="+".join,
)
async def test_answers_are_exact_and_say_who_drafted(
    bundle: Bundle, drafters: tuple[str, ...], flow: str
) -> None:
    oracle = Oracle(bundle)
    async with running(bundle, drafters=drafters, flow=flow) as stack:
        answer = await _ask(stack)
        oracle.check(answer, oracle.rank(HISTORY, 5, excluded=HISTORY))
        assert answer.degraded == ()
        assert answer.debug is not None
        if flow == "one-pass" and drafters == ("head",):
            # The head needs the exact first level: nobody is left to draft.
            assert (answer.work.rounds, answer.work.flow) == (0, "plain")
            return
        assert set(answer.debug.draft_sources) <= set(drafters)
        assert answer.debug.draft_sources
        assert answer.work.flow == flow.replace("-", "_")
        assert sum(answer.debug.draft_sources.values()) == answer.work.drafted_nodes
        assert answer.work.dropped_nodes == 0
        await stack.until_slots_are_back()


async def test_all_at_once_beside_filters_and_the_pool(bundle: Bundle) -> None:
    oracle = Oracle(bundle)
    excluded = [f"item-{number:04d}" for number in range(0, 200, 3)]
    async with running(bundle) as stack:
        for _ in range(3):
            answer = await stack.client.recommend(
                "somebody",
                events=[Interaction(item) for item in HISTORY],
                num_items=8,
                speculation="on",
                exclude_item_ids=excluded,
                debug=True,
            )
            oracle.check(answer, oracle.rank(HISTORY, 8, excluded=[*HISTORY, *excluded]))
            assert answer.debug is not None
            assert len(answer.debug.draft_sources) >= 2
