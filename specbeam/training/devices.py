"""One process, or several: `accelerate launch` and `torchrun` both work.

Every process trains on its own share of each step's batches; gradients are averaged.  Validation
users are shared out as well.  Only the main process writes files and reports.
"""

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from specbeam.training.errors import TrainingError

# The others wait while the main process trains a teacher.
MAX_WAIT_H = 12


class Devices:
    """The process's place among all processes, and its device."""

    def __init__(self) -> None:
        """Join the process group that the launcher's environment describes, if it does.

        Raises:
            TrainingError: a launcher started several processes, but they do not form a group.
        """
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        # Without this, processes without an accelerator would each believe to be alone.
        on_cpu = launched > 1 and not torch.accelerator.is_available()
        patience = InitProcessGroupKwargs(timeout=timedelta(hours=MAX_WAIT_H))
        self._accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[patience])
        if self.size != launched:
            raise TrainingError(
                f"{launched} processes were started, but {self.size} of them train together"
            )

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self._accelerator.device)

    @property
    def rank(self) -> int:
        """Number of this process, 0 .. size - 1."""
        return int(self._accelerator.process_index)

    @property
    def size(self) -> int:
        """Processes in all."""
        return int(self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return bool(self._accelerator.is_main_process)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model for training; backward averages gradients over processes."""
        if self.size == 1:
            return model
        return cast(nn.Module, self._accelerator.prepare_model(model))

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        if self.size == 1:
            return flag
        total = self._accelerator.reduce(torch.tensor(float(flag), device=self.device))
        return bool(cast(Tensor, total).item() > 0.0)

    def sums(self, values: Iterable[float]) -> list[float]:
        """Return each value summed over processes."""
        own = torch.tensor(list(values), dtype=torch.float64)
        if self.size == 1:
            return own.tolist()
        return torch.stack(self.gather(own)).sum(dim=0).tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process, in order."""
        return [value] if self.size == 1 else list(gather_object([value]))

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value."""
        if self.size == 1:
            return value
        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Wait for all processes."""
        self._accelerator.wait_for_everyone()

    def random_state(self) -> dict[str, Tensor]:
        """Return the state of this process's generators."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_random_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `random_state` returned."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
