"""A loaded model on the thread that owns its device."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from specbeam.bundle import Bundle
from specbeam.engine import ModelRunner
from specbeam.engine.cost import CostPoint
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import Unavailable
from specbeam.runtime.slots import SlotKeeper


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
        threads: CPU threads it uses.
        default_deadline_s: Seconds a call may take when its caller names none.
        costs: What a pass costs; empty before it was measured.
        ready: Whether the warm-up is over.
    """

    model: Model
    device: DeviceThread
    slots: SlotKeeper
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
