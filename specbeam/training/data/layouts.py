"""Which layout the files of a source have."""

from pathlib import Path
from typing import Literal

from specbeam.training.errors import DatasetError

Layout = Literal["table", "atspeed", "minionerec"]
LAYOUTS: tuple[Layout, ...] = ("table", "atspeed", "minionerec")


def detect_layout(source: Path) -> tuple[Layout, str]:
    """Return the layout of a source and what shows it.

    Raises:
        DatasetError: a folder has none of the known files.
    """
    if source.is_file():
        return "table", f"{source.name} is a file"
    if (source / "sequential_train.txt").is_file():
        return "atspeed", "there is a sequential_train.txt"
    index = sorted(source.glob("*.index.json"))
    if index:
        return "minionerec", f"there is a {index[0].name}"
    raise DatasetError(
        str(source),
        [
            "the folder has neither sequential_train.txt (layout atspeed) nor a *.index.json "
            "(layout minionerec); for layout table name the file of interactions"
        ],
    )
