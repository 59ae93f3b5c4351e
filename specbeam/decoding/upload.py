"""How arrays get to a device without waiting for it."""

from __future__ import annotations

import numpy as np
import torch


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
