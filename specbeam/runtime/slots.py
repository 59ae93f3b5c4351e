"""Who may hold a KV slot: first come, first served, until the deadline."""

import asyncio
from collections import deque
from collections.abc import Callable

from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import DeadlineSpent, Overloaded

# What a refused caller is told to wait: about one session.
_RETRY_AFTER_S = 0.1


class SlotGate:
    """Counts slots and queues sessions for them.

    Used on the event loop only. A session that waits here holds neither a slot nor the device.
    """

    def __init__(self, total: int, max_waiting: int) -> None:
        """Start with all slots free.

        Args:
            total: Slots there are.
            max_waiting: Sessions that may wait; more are refused at once.
        """
        self.total = total
        self._max_waiting = max_waiting
        self._free = total
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Slots nobody holds."""
        return self._free

    @property
    def waiting(self) -> int:
        """Sessions in the queue."""
        return sum(not waiter.done() for waiter in self._waiters)

    async def acquire(self, timeout_s: float) -> None:
        """Take a slot; `release` gives it back.

        Args:
            timeout_s: Longest wait, seconds.

        Raises:
            Overloaded: Too many sessions wait already.
            DeadlineSpent: No slot became free in time.
        """
        if self._free and not self._waiters:
            self._free -= 1
            return
        if self.waiting >= self._max_waiting:
            raise Overloaded("too many sessions wait for a slot", retry_after_s=_RETRY_AFTER_S)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                raise DeadlineSpent("no slot became free in time") from error
            raise

    def release(self) -> None:
        """Give a slot back, to the longest waiting session if there is one."""
        if self._free >= self.total:
            raise AssertionError("a slot was released twice")
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        """Drop out of the queue; a slot granted in the same moment goes to the next one."""
        if waiter.done() and not waiter.cancelled():
            self.release()
        elif waiter in self._waiters:
            self._waiters.remove(waiter)


class SlotKeeper:
    """Hands out the slots of one model and takes each back exactly once.

    Giving back runs as a task of its own, so neither a cancelled call nor a caller that is
    gone can stop it, and no answer waits for it.
    """

    def __init__(self, gate: SlotGate, device: DeviceThread) -> None:
        """Keep the slots of the model that `device` owns."""
        self.gate = gate
        self._device = device
        self._returning: set[asyncio.Task[None]] = set()

    async def acquire(self, timeout_s: float) -> None:
        """Take a slot; see `SlotGate.acquire`. Exactly one `give_back` must follow."""
        await self.gate.acquire(timeout_s)

    def give_back(self, close: Callable[[], None]) -> None:
        """Run `close` on the device after what is queued there, then free the slot."""
        task = asyncio.get_running_loop().create_task(self._give_back(close))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def drain(self) -> None:
        """Wait until every slot given back is free."""
        while self._returning:
            await asyncio.gather(*self._returning, return_exceptions=True)

    async def _give_back(self, close: Callable[[], None]) -> None:
        try:
            await self._device.run(close)
        finally:
            self.gate.release()
