"""A trained SASRec on disk: sasrec.json and model.safetensors."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import DatasetError
from specbeam.training.evaluation.fingerprint import fitting_fingerprint
from specbeam.training.files import new_directory, read_json, write_json
from specbeam.training.sasrec.config import SasRecConfig
from specbeam.training.sasrec.fitting import FittedSasRec
from specbeam.training.sasrec.model import SasRec

FORMAT = 1
SASREC_FILE = "sasrec.json"
WEIGHTS_FILE = "model.safetensors"
TRAINED_ITEMS = "trained_items"


def save_sasrec(fitted: FittedSasRec, dataset: Dataset, directory: Path) -> None:
    """Write a directory; it appears whole or not at all and replaces an older one.

    Args:
        fitted: what to write.
        dataset: what it was fitted on.
        directory: where.
    """
    with new_directory(directory, overwrite=True) as scratch:
        tensors = {f"model.{name}": value for name, value in fitted.model.state_dict().items()}
        tensors[TRAINED_ITEMS] = torch.from_numpy(fitted.trained)
        save_file(tensors, scratch / WEIGHTS_FILE)
        description = {
            "format": FORMAT,
            "dataset": dataset.name,
            "fingerprint": fitting_fingerprint(dataset),
            "config": fitted.model.config.to_dict(),
            "report": fitted.report,
        }
        write_json(scratch / SASREC_FILE, description)


def load_sasrec(directory: Path, dataset: Dataset) -> FittedSasRec:
    """Read what `save_sasrec` wrote.

    Args:
        directory: where it lies.
        dataset: must be the one it was fitted on.

    Raises:
        DatasetError: files are missing or damaged, or another dataset or split was fitted.
    """
    try:
        description = read_json(directory / SASREC_FILE)
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']} is not {FORMAT}")
        if description["fingerprint"] != fitting_fingerprint(dataset):
            raise ValueError(
                f"it was fitted on other items, train or valid interactions than those of dataset "
                f"{dataset.name}"
            )
        config = _config(description["config"])
        tensors = load_file(directory / WEIGHTS_FILE)
        trained = tensors.pop(TRAINED_ITEMS).numpy()
        model = SasRec(len(trained), config)
        model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items()})
        model.eval()
        return FittedSasRec(model, trained, dict(description["report"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DatasetError(f"saved SASRec {directory}", [str(error)]) from error


def _config(document: dict[str, Any]) -> SasRecConfig:
    known = {field.name for field in fields(SasRecConfig)}
    return SasRecConfig(**{name: value for name, value in document.items() if name in known})
