"""One model on one device: tree-attention forward, KV slots, sessions, whole searches."""

from specbeam.engine.drafter import DraftedLevel, DraftSession
from specbeam.engine.kv_pool import NoFreeSlotError
from specbeam.engine.runner import ModelRunner, RunnerConfig
from specbeam.engine.search import SearchSpec, SpeculationSpec, plain_search, speculative_search
from specbeam.engine.session import BeamSession, SearchModel, Turn

__all__ = [
    "BeamSession",
    "DraftSession",
    "DraftedLevel",
    "ModelRunner",
    "NoFreeSlotError",
    "RunnerConfig",
    "SearchModel",
    "SearchSpec",
    "SpeculationSpec",
    "Turn",
    "plain_search",
    "speculative_search",
]
