"""The dataset directory with semantic IDs and semantic_ids.json beside."""

import shutil
from pathlib import Path
from typing import Any

from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import (
    DATASET_FILE,
    INTERACTIONS_FILE,
    ITEMS_FILE,
    write_dataset,
)
from specbeam.training.files import new_directory, write_json

SEMANTIC_IDS_FILE = "semantic_ids.json"
_WRITTEN = (DATASET_FILE, ITEMS_FILE, INTERACTIONS_FILE, SEMANTIC_IDS_FILE)


def write_with_report(
    dataset: Dataset, report: dict[str, Any], source: Path, target: Path, *, overwrite: bool
) -> None:
    """Write the dataset and the report as one directory, whole or not at all.

    Args:
        dataset: with semantic IDs.
        report: what `assign_semantic_ids` reported.
        source: the directory that the dataset was read from; its other files are kept.
        target: the directory to write; may be `source`.
        overwrite: whether an existing `target` is replaced.

    Raises:
        TrainingError: `target` exists and `overwrite` is false.
    """
    with new_directory(target, overwrite=overwrite) as scratch:
        write_dataset(dataset, scratch, overwrite=True)
        for path in sorted(source.iterdir()):
            if path.name not in _WRITTEN:
                _copy(path, scratch / path.name)
        write_json(scratch / SEMANTIC_IDS_FILE, report)


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy2(path, target)
