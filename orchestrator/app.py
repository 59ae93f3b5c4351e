"""Putting the orchestrator together."""

import asyncio
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog

from orchestrator.auto import SpeculationChooser
from orchestrator.bundles import BundleTable
from orchestrator.draft_client import DraftClient
from orchestrator.peers import PeerMonitor
from orchestrator.query import Limits, Speculation
from orchestrator.recommender import Recommender
from orchestrator.search import Searcher
from orchestrator.servicer import Availability, RecommendServicer, ServicerConfig
from orchestrator.settings import OrchestratorSettings
from orchestrator.target_client import TargetClient
from specbeam.draft.v1alpha1 import draft_service_pb2
from specbeam.recommend.v1 import recommend_service_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    add_RecommendServiceServicer_to_server,
)
from specbeam.runtime.channel import create_channel
from specbeam.runtime.health import Health
from specbeam.runtime.server import Closer, bind, create_server, enable_reflection, serve
from specbeam.storage import HistoryStore, open_history_store
from specbeam.target.v1alpha1 import target_service_pb2

SERVICE = recommend_service_pb2.DESCRIPTOR.services_by_name["RecommendService"].full_name

_log = structlog.get_logger("orchestrator")


@dataclass(frozen=True, slots=True)
class _Peers:
    """The model services and how they are."""

    target: TargetClient
    target_monitor: PeerMonitor
    draft: DraftClient | None
    draft_monitor: PeerMonitor | None
    channels: tuple[grpc.aio.Channel, ...]

    def availability(self) -> Availability:
        draft = self.draft_monitor is not None and self.draft_monitor.available
        return Availability(self.target_monitor.available, draft)

    async def start(self) -> None:
        await self.target_monitor.start()
        if self.draft_monitor is not None:
            await self.draft_monitor.start()

    async def close(self) -> None:
        await self.target_monitor.stop()
        if self.draft_monitor is not None:
            await self.draft_monitor.stop()
        for channel in self.channels:
            await channel.close()


@dataclass(frozen=True, slots=True)
class Assembled:
    """A bound server that has not started.

    Attributes:
        server: The server.
        port: Its port.
        health: Its health.
        closers: What to close after it, in order.
    """

    server: grpc.aio.Server
    port: int
    health: Health
    closers: tuple[Closer, ...]


class App:
    """A running orchestrator in this process.

    Attributes:
        port: Port it listens on.
    """

    def __init__(self, port: int, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        """Hold a server that has started."""
        self.port = port
        self._stop = stop
        self._task = task

    async def stop(self) -> None:
        """Finish running calls and close everything."""
        self._stop.set()
        await self._task


async def start_app(settings: OrchestratorSettings) -> App:
    """Start an orchestrator on the running loop and return once it accepts calls.

    Args:
        settings: Its settings; the drain delay is not used.

    Raises:
        BundleError: A bundle is not usable.
        PortInUse: The address cannot be listened on.
    """
    assembled = await assemble(settings)
    stop, started = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(_serve(assembled, settings, 0.0, stop, started.set))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiting.cancel()
        await task
    return App(assembled.port, stop, task)


async def run_app(settings: OrchestratorSettings) -> None:
    """Run an orchestrator until a signal stops it."""
    assembled = await assemble(settings)
    await _serve(assembled, settings, settings.drain_delay_s, None, lambda: None)


async def _serve(
    assembled: Assembled,
    settings: OrchestratorSettings,
    drain_delay_s: float,
    stop: asyncio.Event | None,
    started: Callable[[], None],
) -> None:
    def note_start() -> None:
        _log.info("serving", host=settings.host, port=assembled.port)
        started()

    await serve(
        assembled.server,
        assembled.health,
        closers=assembled.closers,
        drain_delay_s=drain_delay_s,
        grace_s=settings.grace_s,
        stop=stop,
        started=note_start,
    )


async def assemble(settings: OrchestratorSettings) -> Assembled:
    """Load the bundles, look at the peers once and bind the server.

    Raises:
        BundleError: A bundle is not usable.
        PortInUse: The address cannot be listened on.
    """
    bundles = BundleTable.load(settings.bundle)
    store = open_history_store(
        settings.store.get_secret_value(), max_events=settings.max_history_events
    )
    peers = _make_peers(settings, bundles)
    server = create_server(
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_rpcs=settings.max_concurrent_rpcs,
    )
    port = bind(server, settings.host, settings.port)
    add_RecommendServiceServicer_to_server(_make_servicer(settings, bundles, store, peers), server)
    if settings.reflection:
        enable_reflection(server, (SERVICE,))
    health = Health((SERVICE,), lambda: peers.target_monitor.available)
    await health.register(server)
    await peers.start()
    return Assembled(server, port, health, (peers.close, store.close))


def _make_peers(settings: OrchestratorSettings, bundles: BundleTable) -> _Peers:
    target_channel = create_channel(
        settings.target_address,
        retry=tuple(target_service_pb2.DESCRIPTOR.services_by_name.values()),
        max_message_bytes=settings.max_message_bytes,
    )
    target = TargetClient(target_channel)
    interval_s = settings.poll_interval_s
    target_monitor = PeerMonitor(
        "target", target.info, bundles.default, same_catalog=True, interval_s=interval_s
    )
    if not settings.draft_address:
        return _Peers(target, target_monitor, None, None, (target_channel,))
    draft_channel = create_channel(
        settings.draft_address,
        retry=tuple(draft_service_pb2.DESCRIPTOR.services_by_name.values()),
        max_message_bytes=settings.max_message_bytes,
    )
    draft = DraftClient(draft_channel)
    draft_monitor = PeerMonitor(
        "draft", draft.info, bundles.default, same_catalog=False, interval_s=interval_s
    )
    return _Peers(target, target_monitor, draft, draft_monitor, (target_channel, draft_channel))


def _make_servicer(
    settings: OrchestratorSettings, bundles: BundleTable, store: HistoryStore, peers: _Peers
) -> RecommendServicer:
    def limits() -> Limits:
        info = peers.target_monitor.info
        return Limits(
            max_num_items=settings.max_num_items,
            max_beam_width=_smaller(settings.max_beam_width, info.max_beam_width if info else 0),
            max_rows=_smaller(settings.max_max_rows, info.max_rows if info else 0),
        )

    recommender = Recommender(
        bundles=bundles,
        store=store,
        searcher=Searcher(peers.target, peers.draft, settings.draft_timeout_ms),
        chooser=SpeculationChooser(exploration=settings.exploration),
        limits=limits,
        default_max_rows=settings.default_max_rows,
        has_draft=peers.draft is not None,
        max_history=settings.max_history_events,
    )
    config = ServicerConfig(
        default_deadline_s=settings.default_deadline_s,
        default_speculation=Speculation[settings.speculation.upper()],
        allow_debug=settings.allow_debug,
        version=importlib.metadata.version("specbeam"),
    )
    return RecommendServicer(recommender, bundles, store, limits, peers.availability, config)


def _smaller(own: int, theirs: int) -> int:
    return min(own, theirs) if theirs else own
