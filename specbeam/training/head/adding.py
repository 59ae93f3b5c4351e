"""A root head for `specbeam bundle add-drafter`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specbeam.bundle import Bundle
from specbeam.training.data.dataset import Dataset
from specbeam.training.head.fitting import train_head
from specbeam.training.progress import Reporter


def add_to_bundle(
    bundle: Bundle, dataset: Dataset, directory: Path, reporter: Reporter
) -> Mapping[str, Any]:
    """Train a head with the default settings into a folder that is there and empty."""
    directory.rmdir()  # it appears whole, or not at all
    return train_head(bundle, dataset, directory, reporter=reporter)
