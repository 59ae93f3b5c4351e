"""A store that does not answer in time: whose fault it is depends on the time it was given."""

import asyncio
import time
from typing import Any, cast

import pytest

from orchestrator.bundles import Serving
from orchestrator.history import load_history
from orchestrator.query import Query
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent, StoreUnavailable
from specbeam.storage import StateStore
from tests.bundles import tiny_bundle


class SilentStore:
    async def read(self, *_: Any) -> None:
        await asyncio.sleep(60)


async def _load(left_s: float) -> None:
    bundle = tiny_bundle()
    # Neither filters nor titles are looked at.
    serving = Serving(bundle, cast(Any, None), (), cast(Any, None))
    query = Query(user_id="ann", num_items=3)
    budget = CallBudget(time.monotonic() + left_s)
    await load_history(cast(StateStore, SilentStore()), query, serving, budget, 10, None)


async def test_a_store_that_had_time_is_out_of_reach() -> None:
    with pytest.raises(StoreUnavailable):
        await _load(0.2)


async def test_a_store_that_had_none_is_not_blamed() -> None:
    with pytest.raises(DeadlineSpent):
        await _load(0.01)
