"""Errors of the catalogue."""

from collections.abc import Sequence


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


class UnknownTagError(CatalogError):
    """A filter names tags that no item of the catalogue has.

    Attributes:
        names: the unknown tags.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Keep the names."""
        self.names = tuple(names)
        super().__init__([f"the catalogue has no tag {name!r}" for name in names])
