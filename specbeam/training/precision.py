"""Which number formats a device is quick in."""

import torch


def bf16_is_fast(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Not public in torch, and the only place that knows.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported is not None and supported())
