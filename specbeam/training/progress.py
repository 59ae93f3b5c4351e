"""Live progress: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 15.0


class Reporter(Protocol):
    """What the training loop tells the outside."""

    def update(self, phase: str, progress: float, text: str) -> None:
        """Report progress in 0 .. 1."""

    def note(self, text: str) -> None:
        """Report something that should stay visible."""


class ConsoleReporter:
    """Reports to a rich console (stderr in the command line)."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare a bar if the console is a terminal.

        Args:
            console: where to write.
            clock: seconds, for the spacing of plain lines.
        """
        self._console = console
        self._clock = clock
        self._last_line = float("-inf")
        self._tasks: dict[str, TaskID] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, phase: str, progress: float, text: str) -> None:
        """Move the bar, or print a line if the last one is 15 s old."""
        if self._console.is_terminal:
            if phase not in self._tasks:
                self._tasks[phase] = self._bar.add_task(phase, total=1.0, text="")
            self._bar.update(self._tasks[phase], completed=progress, text=text)
        elif self._clock() - self._last_line >= LINE_EVERY_S:
            self._last_line = self._clock()
            self._console.print(f"{phase} {progress:4.0%}  {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True)


class SilentReporter:
    """Reports nothing: for all processes but the main one."""

    def update(self, phase: str, progress: float, text: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
