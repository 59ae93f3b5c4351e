"""Errors of the catalogue."""


class CatalogError(ValueError):
    """A catalogue cannot be built or loaded.

    Attributes:
        problems: every problem found, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        """Keep all problems; the message shows the first ten."""
        self.problems = problems
        shown = "; ".join(problems[:10])
        more = f" (and {len(problems) - 10} more)" if len(problems) > 10 else ""
        super().__init__(shown + more)
