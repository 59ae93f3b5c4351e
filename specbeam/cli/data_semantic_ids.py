"""`specbeam data semantic-ids`."""

from pathlib import Path
from typing import Any

import click

from specbeam.cli.output import print_json, print_table, progress_console

METHODS = ("text", "cooccurrence", "text+cooccurrence", "vectors")
BALANCES = ("none", "lower", "all")
POLICIES = ("reassign", "level", "keep")


@click.command(
    name="semantic-ids",
    epilog="""\b
Examples:
  specbeam data semantic-ids shop.dataset
  specbeam data semantic-ids shop.dataset --method cooccurrence --levels 4
  specbeam data semantic-ids shop.dataset --vectors items.parquet --out shop-b.dataset
  specbeam data semantic-ids beauty.dataset --method cooccurrence --overwrite-ids --json""",
)
@click.argument("dataset_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="What item embeddings are made from; text+cooccurrence where there are both.",
)
@click.option(
    "--vectors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own item vectors: .npy in item order, .npz (ids, vectors), .parquet.",
)
@click.option("--levels", type=int, help="Codes per item, 2 to 7; by catalogue size, at least 3.")
@click.option("--codes", type=int, help="Codes per level, 2 to 256; by catalogue size.")
@click.option("--dims", default=128, show_default=True, help="Dimensions of the embeddings.")
@click.option(
    "--text-weight", default=0.5, show_default=True, help="Share of text in text+cooccurrence."
)
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default="lower",
    show_default=True,
    help="Levels whose codes are made to be used about equally; lower: all but the first.",
)
@click.option(
    "--collisions",
    type=click.Choice(POLICIES),
    default="reassign",
    show_default=True,
    help="Equal paths: move to a free last code, count in one more level, or keep.",
)
@click.option("--seed", default=0, show_default=True, help="Same seed and dataset, same IDs.")
@click.option("--overwrite-ids", is_flag=True, help="Replace semantic IDs that are there.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a new dataset directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def semantic_ids(
    dataset_dir: Path,
    overwrite_ids: bool,
    out: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Give every item of DATASET_DIR a semantic ID.

    Item embeddings are made from titles, texts and topics and from which items are taken near one
    another in train histories, as far as there are any; or they are read with --vectors. Residual
    k-means turns them into codes. The dataset is replaced as a whole, and semantic_ids.json beside
    it holds the options and the quality numbers.
    """
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.errors import TrainingError
    from specbeam.training.semantic_ids.assign import assign_semantic_ids
    from specbeam.training.semantic_ids.files import write_with_report
    from specbeam.training.semantic_ids.options import SemanticIdOptions

    if out is not None and out.exists():
        raise TrainingError(f"{out} already exists; choose another path")
    console = progress_console()
    dataset, report = assign_semantic_ids(
        read_dataset(dataset_dir),
        SemanticIdOptions(**chosen),
        replace_ids=overwrite_ids,
        note=lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    target = out or dataset_dir
    write_with_report(dataset, report, dataset_dir, target, overwrite=out is None)
    if as_json:
        print_json({"directory": str(target), **report})
    else:
        _print(target, report)


def _print(target: Path, report: dict[str, Any]) -> None:
    rows = [
        (
            entry["name"],
            f"{entry['used']:,}",
            f"{entry['perplexity']:.1f}",
            f"{entry['largest_share']:.1%}",
            f"{entry['relative_error']:.1%}" if "relative_error" in entry else "-",
            f"{tree['prefixes']:,}",
            f"{tree['children_p50']:.0f} / {tree['children_p90']:.0f} / {tree['children_max']}",
            *(_lift(report["prefix_lift"][split], level) for split in ("train", "valid")),
        )
        for level, (entry, tree) in enumerate(
            zip(report["levels"], report["prefix_tree"], strict=True)
        )
    ]
    columns = (
        "level",
        "codes",
        "perplexity",
        "largest",
        "error left",
        "parents",
        "children p50 / p90 / max",
        "lift, train",
        "lift, valid",
    )
    print_table(f"{report['dataset']}: {target}", columns, rows)
    before, after = report["collisions_before"], report["collisions"]
    totals = [
        ("items", f"{report['items']:,}"),
        ("method", report["options"]["method"]),
        ("distinct paths", f"{report['distinct_paths']:,}"),
        ("items sharing a path, before", f"{before['items']:,}"),
        ("items sharing a path", f"{after['items']:,} (largest group {after['largest']:,})"),
        ("items without information", f"{report['items_without_information']:,}"),
    ]
    print_table("semantic IDs", ("", ""), totals)


def _lift(entries: list[dict[str, Any]], level: int) -> str:
    """Return how much more often consecutive items share a prefix than shuffled ones, or "-"."""
    if not entries or "lift" not in entries[level]:
        return "-"
    return f"{entries[level]['lift']:.1f}"
