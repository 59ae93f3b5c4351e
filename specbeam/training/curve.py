"""A picture of how a run went: training loss and validation score over the steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOSS_COLOUR = "#4477aa"
SCORE_COLOUR = "#cc3311"
SCORE_NAMES = {"target": "ndcg@10", "draft": "coverage"}


def draw_curves(training: Mapping[str, Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw one panel per phase.

    Args:
        training: reports of the phases, as in report.json.
        path: picture to write; the suffix says how (.svg, .png).
        title: heading.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings: Any = {"font.size": 11, "svg.hashsalt": "specbeam", "svg.fonttype": "none"}
    with pyplot.rc_context(settings):
        figure, panels = pyplot.subplots(
            1, len(training), figsize=(5.2 * len(training), 3.8), squeeze=False
        )
        for panel, (phase, report) in zip(panels[0], training.items(), strict=True):
            _draw_phase(panel, phase, report)
        figure.suptitle(title.replace("$", r"\$"))  # no mathematics in names
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _draw_phase(panel: Any, phase: str, report: Mapping[str, Any]) -> None:
    history: Sequence[Mapping[str, float]] = report["validations"]
    steps = [record["step"] for record in history]
    panel.plot(steps, [record["train_loss"] for record in history], color=LOSS_COLOUR, marker=".")
    panel.set_title(f"{phase}: {report['parameters']:,} parameters, {report['minutes']:.1f} min")
    panel.set_xlabel("step")
    panel.set_ylabel("training loss, nats per item", color=LOSS_COLOUR)
    name = SCORE_NAMES[phase]
    if any(name not in record for record in history):
        return
    score = panel.twinx()
    score.plot(steps, [record[name] for record in history], color=SCORE_COLOUR, marker="o")
    score.set_ylabel(f"validation {name}", color=SCORE_COLOUR)
    score.axvline(report["best_step"], color="#bbbbbb", linestyle=":", zorder=0)
    score.set_ylim(0.0, 1.08 * max([record[name] for record in history] + [1e-9]))
