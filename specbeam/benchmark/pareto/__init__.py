"""Speed against rows: fixed trees, chosen trees, and leaving the choice open."""
