"""How long a draft may take."""

from specbeam.runtime.deadlines import CallBudget

# Of the time left when a proposal is asked for; the target needs the rest.
DRAFT_SHARE = 0.25
# Kept for ranking and the answer itself.
ANSWER_RESERVE_S = 0.005


def draft_timeout_s(budget: CallBudget, cap_ms: float) -> float:
    """Return how long to wait for one proposal, seconds.

    Args:
        budget: Time left for the request.
        cap_ms: Never wait longer than this, milliseconds.
    """
    return min(cap_ms / 1000.0, DRAFT_SHARE * budget.remaining_s())
