"""Waiting for what another task or process will bring about."""

import asyncio
import time
from typing import Any


async def until(ask: Any, wanted: Any, timeout_s: float = 5.0) -> None:
    """Wait until ``await ask()`` returns what is wanted."""
    deadline = time.monotonic() + timeout_s
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, f"still {found!r}, not {wanted!r}"
        await asyncio.sleep(0.02)
