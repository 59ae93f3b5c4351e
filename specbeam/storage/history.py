"""The interface of a history store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

DEFAULT_MAX_EVENTS: Final = 1000
# A history remembers this many event ids for each event it keeps, so that a late
# duplicate of a dropped event is still known.
IDS_PER_EVENT: Final = 4


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a user did with an item.

    Attributes:
        item_id: The item.
        event_id: The caller's id of the event, unique per user.
        time_ms: When, milliseconds since 1970-01-01 UTC; 0 = unknown.
        type: What, such as ``view``; may be empty.
    """

    item_id: str
    event_id: str
    time_ms: int = 0
    type: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """The most recent part of a user's history.

    Attributes:
        events: Oldest first, in order of arrival.
        total: Events the store holds for the user.
    """

    events: tuple[Event, ...]
    total: int


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append did.

    Attributes:
        stored: Events stored now.
        duplicates: Events whose id was known already.
        total: Events the store holds for the user now.
    """

    stored: int
    duplicates: int
    total: int


class HistoryStore(Protocol):
    """Keeps a bounded history for each user of each tenant.

    Every method raises `StoreUnavailable` when the store is out of reach, full or
    broken; none waits long for it to come back.
    """

    async def read(self, tenant: str, user_id: str, limit: int) -> History:
        """Return the `limit` most recent events; an unknown user has none."""

    async def append(self, tenant: str, user_id: str, events: Sequence[Event]) -> AppendResult:
        """Append events in the order given, all or none; known event ids change nothing.

        Returns once the events are stored. The oldest events beyond the bound are
        dropped.
        """

    async def delete(self, tenant: str, user_id: str) -> bool:
        """Remove every trace of the user; return whether there was one."""

    async def ping(self) -> None:
        """Return if the store can be used now."""

    async def close(self) -> None:
        """Release connections and files. The store cannot be used afterwards."""
