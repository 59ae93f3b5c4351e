"""Writing verified trees behind the answers: never waited for, never in the way."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from specbeam.runtime.errors import StoreUnavailable
from specbeam.storage import BatchingTreePool, PoolScope, PoolWrite, TreePoolStore

DEFAULT_MAX_WAITING: Final = 256
_MAX_BATCH: Final = 32
_CLOSING_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PoolWriterCounters:
    """What became of the trees offered; those that wait or are under way are in none but `offered`.

    Attributes:
        offered: All of them.
        written: Stored.
        refused: Not stored, by a rule of the store.
        dropped: Given up to make room, or at the end.
        forgotten: Given up because their user was deleted.
        failed: Lost because the store failed.
    """

    offered: int = 0
    written: int = 0
    refused: int = 0
    dropped: int = 0
    forgotten: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    """Writes under way."""

    writes: tuple[PoolWrite, ...]
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class PoolWriter:
    """A bounded queue of trees and one task that writes them.

    What a failing store loses is not tried again: a tree saves a little time at best.
    """

    def __init__(
        self,
        store: TreePoolStore,
        *,
        max_waiting: int = DEFAULT_MAX_WAITING,
        first_pause_s: float = 0.1,
        longest_pause_s: float = 5.0,
    ) -> None:
        """Prepare; the task starts with the first offer.

        Args:
            store: Where to write; a `BatchingTreePool` is given several trees at once.
            max_waiting: Trees that may wait; the oldest make room for more.
            first_pause_s: Pause after a failure, seconds; doubled after each in a row.
            longest_pause_s: Longest pause, seconds.
        """
        self._store = store
        self._waiting: deque[PoolWrite] = deque()
        self._max_waiting = max_waiting
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._pause_s = 0.0
        self._batch: _Batch | None = None
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._counters = PoolWriterCounters()

    @property
    def counters(self) -> PoolWriterCounters:
        """A copy of the counters."""
        return replace(self._counters)

    @property
    def waiting(self) -> int:
        """Trees that wait."""
        return len(self._waiting)

    def offer(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], data: bytes, started_ms: int
    ) -> None:
        """Have a tree written soon, or never; inside an event loop.

        Args:
            scope: As in `TreePoolStore.add`.
            user_id: As there.
            keys: As there.
            data: As there.
            started_ms: As there.
        """
        self._counters.offered += 1
        if self._closing.is_set():
            self._counters.dropped += 1
            return
        self._waiting.append(PoolWrite(scope, user_id, tuple(keys), data, started_ms))
        while len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._counters.dropped += 1
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="pool-writer")

    async def forget(self, user_id: str) -> None:
        """Give up what waits of a user; return once nothing of the user is under way.

        A store that is told to delete the user afterwards refuses what is offered later but
        began before.
        """
        kept = [write for write in self._waiting if write.user_id != user_id]
        self._counters.forgotten += len(self._waiting) - len(kept)
        self._waiting = deque(kept)
        batch = self._batch
        if batch is not None and any(write.user_id == user_id for write in batch.writes):
            await batch.finished.wait()

    async def close(self) -> None:
        """Write what waits, for at most a second, and end the task."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            _, unfinished = await asyncio.wait([self._task], timeout=_CLOSING_S)
            for task in unfinished:
                task.cancel()
            await asyncio.wait([self._task])
        self._drop_all()

    async def _run(self) -> None:
        while self._waiting or not self._closing.is_set():
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if await self._write_some():
                continue
            if self._closing.is_set():
                return
            await self._rest()

    async def _write_some(self) -> bool:
        """Write a batch; return whether the store took it."""
        size = _MAX_BATCH if isinstance(self._store, BatchingTreePool) else 1
        writes = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
        self._batch = _Batch(tuple(writes))
        try:
            stored = await self._write(self._batch.writes)
        except Exception as error:
            # Whatever is wrong with one batch, the task must live on for the others.
            self._note_failure(error, len(writes))
            return False
        except asyncio.CancelledError:
            self._counters.dropped += len(writes)
            raise
        finally:
            self._batch.finished.set()
            self._batch = None
        self._note_success(stored)
        return True

    async def _write(self, writes: tuple[PoolWrite, ...]) -> tuple[bool, ...]:
        if isinstance(self._store, BatchingTreePool):
            return await self._store.add_many(writes)
        return tuple([await self._write_one(write) for write in writes])

    async def _write_one(self, write: PoolWrite) -> bool:
        return await self._store.add(
            write.scope, write.user_id, write.keys, write.data, write.started_ms
        )

    async def _rest(self) -> None:
        """Leave the store alone for a while, longer each time; not while closing."""
        try:
            async with asyncio.timeout(self._pause_s):
                await self._closing.wait()
        except TimeoutError:
            return

    def _note_failure(self, error: Exception, lost: int) -> None:
        self._counters.failed += lost
        if not self._pause_s:
            if isinstance(error, StoreUnavailable):
                _log.warning("verified trees are not kept: %s", error.__cause__ or error)
            else:
                _log.error("verified trees are not kept", exc_info=error)
        self._pause_s = min(max(self._first_pause_s, 2 * self._pause_s), self._longest_pause_s)

    def _note_success(self, stored: Sequence[bool]) -> None:
        self._counters.written += sum(stored)
        self._counters.refused += len(stored) - sum(stored)
        if self._pause_s:
            _log.info("verified trees are kept again")
            self._pause_s = 0.0

    def _drop_all(self) -> None:
        self._counters.dropped += len(self._waiting)
        self._waiting.clear()
