"""Slots: first come, first served, each back exactly once."""

import asyncio

import pytest

from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import DeadlineSpent, Overloaded
from specbeam.runtime.slots import SlotGate, SlotKeeper


async def test_slots_go_to_waiters_in_order():
    gate, order = SlotGate(1, 10), []
    await gate.acquire(1)

    async def wait(name):
        await gate.acquire(1)
        order.append(name)
        gate.release()

    tasks = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert gate.waiting == 3
    gate.release()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
    assert (gate.free, gate.waiting) == (1, 0)


async def test_a_newcomer_does_not_overtake():
    gate = SlotGate(1, 10)
    await gate.acquire(1)
    waiter = asyncio.create_task(gate.acquire(1))
    await asyncio.sleep(0)
    gate.release()
    with pytest.raises(DeadlineSpent):
        await gate.acquire(0.01)
    await waiter
    assert gate.free == 0


async def test_waiting_ends_with_the_deadline_and_leaves_the_queue():
    gate = SlotGate(1, 10)
    await gate.acquire(1)
    with pytest.raises(DeadlineSpent):
        await gate.acquire(0.01)
    assert gate.waiting == 0
    gate.release()
    assert gate.free == 1


async def test_too_many_waiters_are_refused():
    gate = SlotGate(1, 0)
    await gate.acquire(1)
    with pytest.raises(Overloaded) as refused:
        await gate.acquire(1)
    assert refused.value.retry_after_s


async def test_a_slot_granted_to_a_cancelled_waiter_goes_on():
    gate = SlotGate(1, 10)
    await gate.acquire(1)
    first = asyncio.create_task(gate.acquire(1))
    second = asyncio.create_task(gate.acquire(1))
    await asyncio.sleep(0)
    gate.release()
    first.cancel()  # after the grant, before it could run
    await asyncio.gather(first, return_exceptions=True)
    await second
    gate.release()
    assert gate.free == 1


async def test_a_slot_released_twice_is_a_bug():
    gate = SlotGate(1, 1)
    with pytest.raises(AssertionError):
        gate.release()


async def test_giving_back_waits_for_queued_work_and_survives_a_failing_close():
    async with DeviceThread("test") as device:
        keeper, closed = SlotKeeper(SlotGate(2, 1), device), []

        def fail():
            raise RuntimeError("close failed")

        await keeper.acquire(1)
        await keeper.acquire(1)
        keeper.give_back(lambda: closed.append(1))
        keeper.give_back(fail)
        assert keeper.gate.free == 0
        await keeper.drain()
        assert keeper.gate.free == 2
        assert closed == [1]
