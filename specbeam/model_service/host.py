"""A loaded model on the thread that owns its device."""

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from specbeam.bundle import Bundle
from specbeam.catalog import FilterCompiler, LeafFilter, LeafSpec
from specbeam.decoding.costs import CostPoint
from specbeam.engine import ModelRunner
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import Unavailable
from specbeam.runtime.slots import SlotKeeper

# Leaf sets up to this size are compiled where they are, in well under a millisecond.
INLINE_LEAVES = 1000


class ServedModel(Protocol):
    """A model of a bundle.  Its runner is used on the device thread only."""

    @property
    def bundle(self) -> Bundle:
        """The bundle it comes from."""

    @property
    def runner(self) -> ModelRunner:
        """The model with its KV slots."""

    @property
    def fingerprint(self) -> str:
        """Content hash of its weights."""


Model = TypeVar("Model", bound=ServedModel)


@dataclass(slots=True)
class ModelHost(Generic[Model]):
    """What a servicer needs to run sessions.

    Attributes:
        model: The model.
        device: The thread that owns it.
        slots: Its KV slots.
        filters: Compiles filters of its catalogue.
        threads: CPU threads it uses.
        default_deadline_s: Seconds a call may take when its caller names none.
        costs: What a pass costs; empty before it was measured.
        ready: Whether the warm-up is over.
    """

    model: Model
    device: DeviceThread
    slots: SlotKeeper
    filters: FilterCompiler
    threads: int
    default_deadline_s: float
    costs: tuple[CostPoint, ...] = ()
    ready: bool = False

    def admit(self, context: Any) -> CallBudget:
        """Return the time a call may take.

        Args:
            context: Servicer context of the call.

        Raises:
            Unavailable: The model is not ready.
        """
        if not self.ready:
            raise Unavailable("the model is warming up")
        return CallBudget.start(context, default_s=self.default_deadline_s)

    async def compile(self, leaves: LeafSpec) -> LeafFilter | None:
        """Return the compiled filter of a session whose fields were checked.

        What takes long is done in another thread, neither on the event loop nor on the device's.
        """
        allowed = leaves.allowed_leaves
        listed = len(leaves.excluded_leaves) + (0 if allowed is None else len(allowed))
        known = self.filters.is_cached(leaves.required_tags, leaves.created_after_ms)
        if known and listed <= INLINE_LEAVES:
            return self.filters.compile(leaves)
        return await asyncio.to_thread(self.filters.compile, leaves)
