"""Baselines by name: fitted on the train split, or read from where they were kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import DatasetError, TrainingError
from specbeam.training.evaluation.baselines import CooccurrenceRanker, PopularityRanker
from specbeam.training.evaluation.fingerprint import fitting_fingerprint
from specbeam.training.evaluation.item_knn import (
    choose_item_knn,
    ranker_with,
    settings_from,
)
from specbeam.training.evaluation.ranking import Ranker
from specbeam.training.evaluation.stages import Stage
from specbeam.training.files import read_json, write_json
from specbeam.training.sasrec.config import SasRecConfig

ITEM_KNN_FILE = "item-knn.json"
SASREC_DIR = "sasrec"


@dataclass(frozen=True, slots=True)
class BaselineOptions:
    """How baselines are fitted.

    Attributes:
        sasrec: settings of a SASRec that has to be trained.
        directory: fitted baselines are kept here and read again by a later run; None to keep
            nothing.
    """

    sasrec: SasRecConfig = field(default_factory=SasRecConfig)
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class FittedBaseline:
    """A baseline that is ready to rank.

    Attributes:
        ranker: who ranks.
        details: settings and how they were chosen, as JSON values.
    """

    ranker: Ranker
    details: dict[str, Any]


Fit = Callable[[Dataset, BaselineOptions, Stage], FittedBaseline]


def _popularity(dataset: Dataset, options: BaselineOptions, stage: Stage) -> FittedBaseline:
    return FittedBaseline(PopularityRanker(dataset.items.popularity), {})


def _cooccurrence(dataset: Dataset, options: BaselineOptions, stage: Stage) -> FittedBaseline:
    ranker = CooccurrenceRanker(dataset.histories("train"), dataset.items.popularity)
    return FittedBaseline(ranker, {})


def _item_knn(dataset: Dataset, options: BaselineOptions, stage: Stage) -> FittedBaseline:
    file = options.directory and options.directory / ITEM_KNN_FILE
    if file is not None and file.exists():
        details = _kept_choice(file, dataset)
        return FittedBaseline(ranker_with(dataset, settings_from(details)), details)
    ranker, details = choose_item_knn(dataset, stage.update)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"fingerprint": fitting_fingerprint(dataset), "chosen": details})
    return FittedBaseline(ranker, details)


def _kept_choice(file: Path, dataset: Dataset) -> dict[str, Any]:
    try:
        document = read_json(file)
        if document["fingerprint"] != fitting_fingerprint(dataset):
            raise ValueError(f"chosen on other interactions than those of dataset {dataset.name}")
        chosen = dict(document["chosen"])
        settings_from(chosen)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(str(file), [f"cannot be used: {error}"]) from error
    return chosen


def _sasrec(dataset: Dataset, options: BaselineOptions, stage: Stage) -> FittedBaseline:
    from specbeam.training.sasrec.files import load_sasrec, save_sasrec
    from specbeam.training.sasrec.fitting import fit_sasrec

    directory = options.directory and options.directory / SASREC_DIR
    if directory is not None and directory.exists():
        fitted = load_sasrec(directory, dataset)
    else:
        fitted = fit_sasrec(dataset, options.sasrec, stage.update)
        if directory is not None:
            save_sasrec(fitted, dataset, directory)
    details = {"config": fitted.model.config.to_dict(), **fitted.report}
    return FittedBaseline(fitted.ranker(len(dataset.items)), details)


BASELINES: dict[str, Fit] = {
    "popularity": _popularity,
    "co-occurrence": _cooccurrence,
    "item-knn": _item_knn,
    "sasrec": _sasrec,
}


def fit_baseline(
    name: str, dataset: Dataset, options: BaselineOptions, stage: Stage
) -> FittedBaseline:
    """Fit a baseline, or read it from `options.directory`.

    Args:
        name: one of BASELINES.
        dataset: its train split is fitted, its valid split decides settings.
        options: how.
        stage: told about progress.

    Raises:
        TrainingError: there is no such baseline, or the dataset cannot fit it.
        DatasetError: what is kept in the directory belongs to other data or is damaged.
    """
    if name not in BASELINES:
        raise TrainingError(f"there is no baseline {name!r}; there are {', '.join(BASELINES)}")
    begin = time.monotonic()
    fitted = BASELINES[name](dataset, options, stage)
    stage.update(1.0)
    return FittedBaseline(
        fitted.ranker, {**fitted.details, "fit_seconds": round(time.monotonic() - begin, 2)}
    )
