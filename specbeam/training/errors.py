"""Errors that a caller of the training package may want to catch.

ValueError
└── TrainingError            anything below
    ├── DatasetError         an input or a dataset directory is wrong; carries every problem
    └── CheckpointError      a work directory does not belong to this run or is damaged
"""

from collections.abc import Sequence

SHOWN_PROBLEMS = 20


class TrainingError(ValueError):
    """Base class: the caller's input or environment is at fault, not the code."""


class DatasetError(TrainingError):
    """An input or a dataset directory is wrong.

    Attributes:
        problems: every problem found, in reading order.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        """Keep all problems; the message shows the first ones.

        Args:
            source: what was read, for the first line of the message.
            problems: at least one sentence, each naming file and line where it can.
        """
        self.problems = tuple(problems)
        shown = [f"  - {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        hidden = len(self.problems) - len(shown)
        if hidden > 0:
            shown.append(f"  ... and {hidden} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *shown]))


class CheckpointError(TrainingError):
    """A work directory does not belong to this run or is damaged."""
