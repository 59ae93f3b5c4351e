"""The request side of a session: one message at a time, each within the lease."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent, LeaseExpired

M = TypeVar("M")


class SessionStream(Generic[M]):
    """Reads the messages of a session.

    Only the time between an answer and the next message counts as idle, not the time a
    session waits for its slot or the device.
    """

    def __init__(self, messages: AsyncIterator[M], budget: CallBudget, lease_s: float) -> None:
        """Prepare reading.

        Args:
            messages: What the caller sends.
            budget: Time the whole session may take.
            lease_s: Longest wait for one message, seconds.
        """
        self._messages = messages
        self._budget = budget
        self._lease_s = lease_s

    async def next(self) -> M | None:
        """Return the next message, or None when the caller is done.

        Raises:
            LeaseExpired: No message came within the lease.
            DeadlineSpent: The session's time ran out first.
        """
        left_s = self._budget.remaining_s()
        try:
            async with asyncio.timeout(min(self._lease_s, left_s)):
                return await anext(self._messages, None)
        except TimeoutError as error:
            if left_s <= self._lease_s:
                raise DeadlineSpent("the session's time ran out between two messages") from error
            raise LeaseExpired(metadata={"lease_s": f"{self._lease_s:g}"}) from error
