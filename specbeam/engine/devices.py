"""Whether a device can be used, and how arrays get there without waiting for it."""

from __future__ import annotations

import numpy as np
import torch


def device_problem(name: str) -> str | None:
    """Return why the device cannot be used here, in one sentence; None if it can.

    Args:
        name: device as torch names it: cpu, cuda, cuda:1.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        return f"torch knows no device {name!r}"
    if device.type == "cpu":
        return None
    try:
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return f"device {name!r} cannot be used here: {line}"
    return None


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array's content on a device, without waiting for the device.

    On CUDA it goes through pinned memory and the copy is queued; torch keeps the pinned block until
    the copy is done.  On the CPU nothing is copied: write to neither.

    Args:
        array: any shape, of a type torch has too.
        device: where to.
    """
    here = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if device.type != "cuda":
        return here.to(device)
    return here.pin_memory().to(device, non_blocking=True)
