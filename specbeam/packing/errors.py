"""The error of the package."""

from collections.abc import Sequence

from specbeam.bundle import BundleError

SHOWN_PROBLEMS = 20


class PackError(BundleError):
    """An input of packing is wrong.

    Attributes:
        problems: every problem found, in reading order.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        """Keep all problems; the message shows the first ones.

        Args:
            source: what was read, for the first line of the message.
            problems: at least one sentence.
        """
        super().__init__(list(problems))
        self._source = source

    def __str__(self) -> str:
        shown = [f"  - {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        hidden = len(self.problems) - len(shown)
        if hidden > 0:
            shown.append(f"  ... and {hidden:,} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems):,} problems"
        return "\n".join([f"{self._source}: {count}", *shown])
