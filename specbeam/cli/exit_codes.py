"""Exit codes of the `specbeam` command; stable across releases."""

OK = 0
FAILURE = 1
USAGE = 2
BAD_INPUT = 3
UNAVAILABLE = 4
INTERRUPTED = 130
