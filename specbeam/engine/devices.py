"""Whether a device can be used."""

from __future__ import annotations

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
