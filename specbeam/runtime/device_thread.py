"""One thread that owns one device: work is queued from asyncio and done in order.

A thread pool would let requests race for the device, and a model call in a coroutine
would stop the event loop; neither can happen here.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class DeviceThreadStopped(RuntimeError):
    """The thread has been told to stop, or was never started."""


@dataclass(frozen=True, slots=True)
class JobResult(Generic[T]):
    """What a job returned, and when it ran.

    Attributes:
        value: What the function returned.
        queue_ms: Time waited for the thread, milliseconds.
        start_ns: Start of the job, nanoseconds of CLOCK_MONOTONIC.
        end_ns: End of the job, nanoseconds of CLOCK_MONOTONIC.
    """

    value: T
    queue_ms: float
    start_ns: int
    end_ns: int

    @property
    def run_ms(self) -> float:
        """Time the job ran, milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[], Any]
    future: futures.Future[JobResult[Any]]
    queued_ns: int


class DeviceThread:
    """The owner thread of one device.

    Jobs run one at a time, first come first served. A job whose waiter was cancelled
    before it started is skipped; a running job cannot be cancelled, its result is
    dropped.
    """

    def __init__(self, name: str, initializer: Callable[[], object] | None = None) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            name: Name of the thread, for logs and profilers.
            initializer: Called first, on the thread: thread counts, device selection.
        """
        self._initializer = initializer
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._lock = threading.Lock()
        self._accepting = False
        self._waiting = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def queue_length(self) -> int:
        """Jobs waiting or running, cancelled ones that are not skipped yet included."""
        return self._waiting

    async def start(self) -> None:
        """Start the thread and wait until the initializer is done.

        Raises:
            Exception: Whatever the initializer raised.
        """
        self._thread.start()
        await asyncio.wrap_future(self._ready)
        self._accepting = True

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` on the thread and return what it returns.

        Raises:
            DeviceThreadStopped: The thread does not take work.
            Exception: Whatever `fn` raised.
        """
        return (await self.run_timed(fn, *args)).value

    async def run_timed(self, fn: Callable[..., T], *args: Any) -> JobResult[T]:
        """Run ``fn(*args)`` on the thread and return the result with its times.

        Raises:
            DeviceThreadStopped: The thread does not take work.
            Exception: Whatever `fn` raised.
        """
        future: futures.Future[JobResult[T]] = futures.Future()
        job = _Job(lambda: fn(*args), future, time.monotonic_ns())
        with self._lock:
            if not self._accepting:
                raise DeviceThreadStopped(f"{self._thread.name} takes no work")
            self._waiting += 1
            self._jobs.put(job)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Let queued jobs finish, take no more, and wait for the thread to end."""
        with self._lock:
            self._accepting = False
        if self._thread.is_alive():
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _work(self) -> None:
        try:
            if self._initializer is not None:
                self._initializer()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while (job := self._jobs.get()) is not None:
            answer = _run(job)
            # Before the waiter hears of it: who has an answer finds the queue shorter.
            with self._lock:
                self._waiting -= 1
            answer()
            # Do not keep the last job's tensors alive while waiting for the next.
            del job, answer


def _run(job: _Job) -> Callable[[], None]:
    """Run a job and return what tells its waiter."""
    future = job.future
    if not future.set_running_or_notify_cancel():
        return lambda: None
    start_ns = time.monotonic_ns()
    try:
        value = job.run()
    except BaseException as error:
        # Also KeyboardInterrupt and SystemExit: the waiter decides, the thread goes on.
        return partial(future.set_exception, error)
    queue_ms = (start_ns - job.queued_ns) / 1e6
    result = JobResult(value, queue_ms, start_ns, time.monotonic_ns())
    return partial(future.set_result, result)
