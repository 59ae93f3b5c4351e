"""A picture of an evaluation: means with intervals, a panel per metric."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specbeam.training.errors import TrainingError

SUFFIXES = (".png", ".svg")
PLOTTED = ("recall@10", "ndcg@10")
# Okabe and Ito's palette: told apart by readers with any colour vision.
TARGET_COLOUR = "#D55E00"
BASELINE_COLOUR = "#0072B2"
WIDTH_INCHES = 9.0
# 900 pixels wide.
PIXELS_PER_INCH = 100
MOST_TICKS = 4
MARGIN_INCHES = 0.12


def check_plot_path(path: Path) -> None:
    """Refuse a suffix that cannot be drawn, before any work is done.

    Raises:
        TrainingError: not .png or .svg.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TrainingError(f"{path}: a plot ends in {' or '.join(SUFFIXES)}")


def plot_evaluation(
    report: Mapping[str, Any],
    path: Path,
    *,
    group: str = "all",
    metrics: Sequence[str] = PLOTTED,
) -> None:
    """Draw a report of `evaluate_bundle`; the file appears whole or not at all.

    Args:
        report: what was measured.
        path: ends in .png or .svg.
        group: group of truth items.
        metrics: one panel each.

    Raises:
        TrainingError: another suffix, or nobody in the group.
    """
    check_plot_path(path)
    results = {name: groups[group] for name, groups in report["results"].items()}
    if not next(iter(results.values()))["users"]:
        raise TrainingError(f"nobody has {group} truth items to plot")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # The largest mean on top: barh counts upwards.
    names = sorted(results, key=lambda name: float(results[name][metrics[0]]["mean"]))
    # No pyplot and no global state; a fixed salt and no date make the same SVG every time.
    with matplotlib.rc_context(
        {"font.size": 12, "svg.hashsalt": "specbeam", "svg.fonttype": "none"}
    ):
        layout = ConstrainedLayoutEngine(w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
        figure = Figure(figsize=(WIDTH_INCHES, 1.6 + 0.45 * len(names)), layout=layout)
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _panel(axis, names, results, metric)
        figure.suptitle(_title(report, group), fontsize=13)
        _save(figure, path)


def _panel(axis: Any, names: Sequence[str], results: Mapping[str, Any], metric: str) -> None:
    for place, name in enumerate(names):
        entry = results[name][metric]
        mean, low, high = entry["mean"], entry["low"], entry["high"]
        is_target = name == "target"
        axis.errorbar(
            mean,
            place,
            xerr=[[mean - low], [high - mean]],
            fmt="D" if is_target else "o",
            markersize=8,
            linewidth=2,
            capsize=4,
            color=TARGET_COLOUR if is_target else BASELINE_COLOUR,
        )
        axis.annotate(
            f"{mean:.4f}",
            (mean, place),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=11,
        )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.35)
    axis.set_xlim(left=0.0)
    axis.set_xlabel(_label(metric))
    axis.locator_params(axis="x", nbins=MOST_TICKS)
    axis.grid(axis="x", color="0.88")
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _label(metric: str) -> str:
    name, _, cutoff = metric.partition("@")
    return f"{name.upper() if name == 'ndcg' else name.capitalize()}@{cutoff}"


def _title(report: Mapping[str, Any], group: str) -> str:
    users = report["results"]["target"][group]["users"]
    shown = "" if group == "all" else f", {group} items"
    return (
        f"{report['dataset']}, {report['split']} split{shown}: "
        f"{users:,} users, mean and 95 % interval"
    )


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    kind = path.suffix.lower().lstrip(".")
    metadata = {"Date": None} if kind == "svg" else None
    try:
        figure.savefig(scratch, format=kind, dpi=PIXELS_PER_INCH, metadata=metadata)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
