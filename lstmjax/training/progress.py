"""Progress reports: a live line in a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressReport:
    """Reports the progress of training, as a context manager.

    Args:
      total: the last step of training.
      start: the first step, above 0 after a resume.
      console: where to write; by default standard output.
    """

    def __init__(self, total: int, start: int = 0, console: Console | None = None) -> None:
        self.console = console or Console()
        self._total, self._latest = total, (start, time.monotonic())
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=start, figures="compiling")

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the metrics of the latest steps, ``loss`` among them, the speed and the remaining time."""
        (before, then), self._latest = self._latest, (step, time.monotonic())
        speed = (step - before) / max(self._latest[1] - then, 1e-9)
        if self.console.is_terminal:
            text = f"loss {figures['loss']:.4g}  {speed:.1f} steps/s"
            self._bar.update(self._task, completed=step, figures=text)
        else:
            left = format_seconds((self._total - step) / max(speed, 1e-9))
            text = f"{format_figures(figures)}  {speed:.1f} steps/s  {left} left"
            self.line(f"step {step}/{self._total}  {text}")


def format_figures(figures: Mapping[str, float]) -> str:
    """Names and values on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def format_seconds(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
