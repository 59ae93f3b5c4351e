"""Where a session's filter is compiled."""

import threading
from types import SimpleNamespace

import numpy as np

from specbeam.catalog import FilterCompiler, LeafSpec
from specbeam.model_service.host import INLINE_LEAVES, ModelHost
from tests.bundles import tiny_bundle


async def test_what_takes_long_leaves_the_event_loop():
    threads = []

    class WatchedCompiler(FilterCompiler):
        def compile(self, spec):
            threads.append(threading.current_thread())
            return super().compile(spec)

    trie = tiny_bundle(facts=True, num_items=2000, codes=30).trie
    filters = WatchedCompiler(trie)
    host = ModelHost(SimpleNamespace(), None, None, filters, 1, 5.0)
    tagged = LeafSpec(required_tags=(("half",),))
    assert await host.compile(tagged) is not None
    assert await host.compile(tagged) is not None
    assert await host.compile(LeafSpec()) is None
    assert await host.compile(LeafSpec(allowed_leaves=np.arange(INLINE_LEAVES))) is not None
    assert await host.compile(LeafSpec(excluded_leaves=np.arange(INLINE_LEAVES + 1))) is not None
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [False, True, True, True, False]
