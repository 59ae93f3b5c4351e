"""`specbeam bench histories`: what a GPU machine needs of a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from specbeam.cli.output import progress_console

EXAMPLES = """
\b
Examples:
  specbeam bench histories beauty.bundle --dataset beauty.dataset --out carried/beauty.npz
  make bench-gpu BUNDLE=carried/beauty.bundle HISTORIES=carried/beauty.npz
"""


@click.command("histories", epilog=EXAMPLES)
@click.argument("bundle_dir", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="Whose test users.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .npz to write.")
def histories(bundle_dir: Path, dataset: Path, out: Path) -> None:
    """Write test users' histories as item numbers of BUNDLE, readable with numpy alone."""
    from specbeam.benchmark.gpu.worlds import save_histories
    from specbeam.bundle import load_bundle
    from specbeam.cli.bench import load_users

    users = load_users(load_bundle(bundle_dir, checkpoints=False), dataset)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_histories(out, users)
    progress_console().print(f"{len(users)} histories written to {out}")
