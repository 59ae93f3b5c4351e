"""Putting the orchestrator together."""

import logging
from dataclasses import dataclass

import grpc

from orchestrator.advice import Advisor, Costs
from orchestrator.bundles import BundleTable
from orchestrator.draft_client import DraftClient
from orchestrator.peers import PeerMonitor
from orchestrator.pool import TreePool
from orchestrator.pool_writer import PoolWriter
from orchestrator.query import Limits, Speculation
from orchestrator.recommender import DraftingChoice, Recommender
from orchestrator.search import Searcher
from orchestrator.servicer import Availability, RecommendServicer, ServicerConfig
from orchestrator.settings import OrchestratorSettings
from orchestrator.target_client import TargetClient
from specbeam import __version__
from specbeam.draft.v1alpha1 import draft_service_pb2
from specbeam.drafting.arms import ArmChooser
from specbeam.drafting.registry import MODEL, POOL
from specbeam.drafting.ways import Flow
from specbeam.recommend.v1 import recommend_service_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    add_RecommendServiceServicer_to_server,
)
from specbeam.runtime.channel import create_channel
from specbeam.runtime.errors import StoreUnavailable
from specbeam.runtime.lifecycle import BoundServer, ServiceApp
from specbeam.storage import PoolLimits, StateStore, open_state_store
from specbeam.target.v1alpha1 import target_service_pb2

_FLOWS = {
    "auto": (Flow.ROOT_FIRST, Flow.ONE_PASS),
    "root-first": (Flow.ROOT_FIRST,),
    "one-pass": (Flow.ONE_PASS,),
}

_log = logging.getLogger(__name__)


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

    def has_own_drafter(self, bundle: str) -> bool:
        info = self.target_monitor.info
        served = None if info is None else info.bundles.get(bundle)
        return served is not None and bool(served.own_drafter)

    def target_costs(self) -> Costs:
        info = self.target_monitor.info
        return {} if info is None else info.costs

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


async def start_app(settings: OrchestratorSettings) -> ServiceApp:
    """Start the service in this process and return once it answers; `stop` ends it.

    It is healthy as soon as the target is.

    Raises:
        BundleError: A bundle cannot be used.
        PortInUse: The port is taken.
    """
    app = await build_app(settings)
    await app.start()
    return app


async def build_app(settings: OrchestratorSettings) -> ServiceApp:
    """Load the bundles and bind the port; raises as `start_app` does."""
    cache_bytes = settings.filter_cache_mb << 20
    bundles = BundleTable.load(
        settings.bundle, filter_cache_bytes=cache_bytes, drafters=settings.drafters
    )
    store = open_state_store(
        settings.store.get_secret_value(),
        max_events=settings.max_history_events,
        pool_limits=PoolLimits(max_keys=settings.pool_max_keys, max_age_s=settings.pool_max_age_s),
    )
    pool = _make_pool(settings, store)
    bound = BoundServer.bind(settings)
    peers = _make_peers(settings, bundles)
    servicer = _make_servicer(settings, bundles, store, peers, pool)
    add_RecommendServiceServicer_to_server(servicer, bound.server)

    async def warm_up() -> None:
        await _try_store(store)
        await peers.start()

    return await bound.app(
        recommend_service_pb2.DESCRIPTOR.services_by_name["RecommendService"],
        ready=lambda: peers.target_monitor.available,
        warm_up=warm_up,
        # What waits to be written needs the store.
        closers=(peers.close, *(() if pool is None else (pool.writer.close,)), store.close),
    )


def _make_pool(settings: OrchestratorSettings, store: StateStore) -> TreePool | None:
    """Return the tree pool; None where nobody would read it."""
    if POOL not in settings.drafters or not settings.pool_nodes:
        return None
    return TreePool(PoolWriter(store), settings.pool_nodes, settings.pool_trees)


async def _try_store(store: StateStore) -> None:
    """Say early what each request would find out; the service does its job without, too."""
    try:
        await store.ping()
    except StoreUnavailable as error:
        _log.warning("histories are out of reach: %s", error.__cause__ or error)


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
    settings: OrchestratorSettings,
    bundles: BundleTable,
    store: StateStore,
    peers: _Peers,
    pool: TreePool | None,
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
        advisor=Advisor(
            ArmChooser(exploration=settings.exploration),
            flows=_FLOWS[settings.flow],
            plan=settings.trees == "chosen",
            costs=peers.target_costs,
        ),
        limits=limits,
        default_max_rows=settings.default_max_rows,
        has_draft=peers.draft is not None and MODEL in settings.drafters,
        max_history=settings.max_history_events,
        drafting=DraftingChoice(settings.drafters, peers.has_own_drafter),
        pool=pool,
    )
    config = ServicerConfig(
        default_deadline_s=settings.default_deadline_s,
        default_speculation=Speculation[settings.speculation.upper()],
        allow_debug=settings.allow_debug,
        version=__version__,
    )
    writer = None if pool is None else pool.writer
    return RecommendServicer(
        recommender, bundles, store, limits, peers.availability, config, writer
    )


def _smaller(own: int, theirs: int) -> int:
    return min(own, theirs) if theirs else own
