"""Whether the model services are there, asked for in the background."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from orchestrator.bundles import Serving
from orchestrator.ports import PeerInfo
from specbeam.runtime.errors import Unavailable

_log = logging.getLogger(__name__)


class PeerMonitor:
    """Asks one service who it is, again and again.

    The service counts as available when it answers and serves the bundle with the same model,
    prompt and catalogue.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[float], Awaitable[PeerInfo]],
        serving: Serving,
        *,
        same_catalog: bool,
        interval_s: float = 1.0,
        timeout_s: float = 1.0,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            name: Name of the service in logs.
            ask: Returns what the service says, given a timeout in seconds.
            serving: The bundle it should serve.
            same_catalog: Whether another catalogue makes it useless.
            interval_s: Seconds between two questions.
            timeout_s: Longest wait for an answer, seconds.
        """
        self._name = name
        self._ask = ask
        self._serving = serving
        self._same_catalog = same_catalog
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = "not asked yet"
        self.info: PeerInfo | None = None

    @property
    def available(self) -> bool:
        """Whether the last answer was as it should be."""
        return self._problem is None

    async def start(self) -> None:
        """Ask once, then keep asking."""
        await self.refresh()
        self._task = asyncio.create_task(self._repeat(), name=f"monitor-{self._name}")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self) -> None:
        """Ask now."""
        try:
            info = await self._ask(self._timeout_s)
        except Unavailable as error:
            self._note(f"out of reach: {error}")
            return
        self.info = info
        self._note(self._mismatch(info))

    def _mismatch(self, info: PeerInfo) -> str | None:
        served = info.bundles.get(self._serving.name)
        if served is None:
            return f"does not serve bundle {self._serving.name!r}"
        own, other = self._serving.fingerprints, served.fingerprints
        parts = ("model", "prompt", "catalog") if self._same_catalog else ("model", "prompt")
        different = [part for part in parts if getattr(own, part) != getattr(other, part)]
        if served.score_kind not in ("", self._serving.bundle.manifest.score_kind):
            different.append("score convention")
        return f"holds another {', '.join(different)}" if different else None

    def _note(self, problem: str | None) -> None:
        if (problem is None) != (self._problem is None) or self._problem == "not asked yet":
            if problem is None:
                _log.info("%s available", self._name)
            else:
                _log.warning("%s not available: %s", self._name, problem)
        self._problem = problem

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.refresh()
