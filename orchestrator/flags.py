"""What was not as usual in an answer."""

from enum import Enum


class Flag(Enum):
    """Names equal those of the API without their prefix."""

    NO_DRAFT = "NO_DRAFT"
    DRAFT_SLOW = "DRAFT_SLOW"
    DRAFT_INVALID = "DRAFT_INVALID"
    EMPTY_HISTORY = "EMPTY_HISTORY"
    NO_HISTORY = "NO_HISTORY"
    UNKNOWN_HISTORY_ITEMS_SKIPPED = "UNKNOWN_HISTORY_ITEMS_SKIPPED"
    NO_POOL = "NO_POOL"
