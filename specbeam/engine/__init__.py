"""One model on one device: tree-attention forward, KV slots, sessions, whole searches."""

from specbeam.engine.adapters import MissingExtraError
from specbeam.engine.drafter import DraftedLevel, DraftSession
from specbeam.engine.kv_pool import NoFreeSlotError
from specbeam.engine.runner import ModelRunner, RunnerConfig
from specbeam.engine.search import (
    SearchSpec,
    SpeculationSpec,
    one_pass_search,
    plain_search,
    speculative_search,
)
from specbeam.engine.search_model import SearchModel
from specbeam.engine.session import BeamSession, Turn
from specbeam.engine.support import ContextTooShortError, UnsupportedModelError

__all__ = [
    "BeamSession",
    "ContextTooShortError",
    "DraftSession",
    "DraftedLevel",
    "MissingExtraError",
    "ModelRunner",
    "NoFreeSlotError",
    "RunnerConfig",
    "SearchModel",
    "SearchSpec",
    "SpeculationSpec",
    "Turn",
    "UnsupportedModelError",
    "one_pass_search",
    "plain_search",
    "speculative_search",
]
