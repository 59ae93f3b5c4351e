"""When a model service counts as available."""

from dataclasses import replace

import pytest

from orchestrator.bundles import BundleTable, Serving
from orchestrator.peers import PeerMonitor
from orchestrator.ports import PeerInfo, ServedBundle
from specbeam.runtime.errors import TargetUnavailable
from tests.bundles import tiny_bundle


@pytest.fixture(scope="module")
def serving() -> Serving:
    return BundleTable.load([tiny_bundle().path]).default


async def available(
    serving: Serving, served: ServedBundle | Exception, *, name: str = "tiny", same: bool = True
) -> bool:
    async def ask(timeout_s: float) -> PeerInfo:
        if isinstance(served, Exception):
            raise served
        return PeerInfo(bundles={name: served})

    monitor = PeerMonitor("target", ask, serving, same_catalog=same)
    assert not monitor.available
    await monitor.refresh()
    return monitor.available


async def test_the_same_bundle_is_needed(serving: Serving) -> None:
    own = ServedBundle(serving.fingerprints, "VOCAB")
    assert await available(serving, own)
    assert not await available(serving, own, name="other")
    assert not await available(serving, TargetUnavailable())


@pytest.mark.parametrize("part", ["model", "prompt", "catalog"])
async def test_every_fingerprint_counts(serving: Serving, part: str) -> None:
    other = ServedBundle(replace(serving.fingerprints, **{part: "other"}), "VOCAB")
    assert not await available(serving, other)
    assert await available(serving, other, same=False) == (part == "catalog")


async def test_another_score_convention_is_another_answer(serving: Serving) -> None:
    assert not await available(serving, ServedBundle(serving.fingerprints, "TRIE"))
    # The draft does not say.
    assert await available(serving, ServedBundle(serving.fingerprints), same=False)
