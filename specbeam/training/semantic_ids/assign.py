"""Give every item of a dataset a semantic ID."""

import string
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import Dataset
from specbeam.training.data.vocabulary import codes_to_tokens, make_levels
from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids import quality
from specbeam.training.semantic_ids.collisions import (
    add_level,
    free_paths,
    reassign,
    squared_distances,
)
from specbeam.training.semantic_ids.embeddings import embed
from specbeam.training.semantic_ids.options import (
    SemanticIdOptions,
    check_options,
    with_defaults,
)
from specbeam.training.semantic_ids.paths import Int32Array
from specbeam.training.semantic_ids.quantise import Quantised, quantise
from specbeam.training.semantic_ids.text import item_documents
from specbeam.training.semantic_ids.vectors import FloatArray

FORMAT = 1


@dataclass(frozen=True, slots=True)
class CodedItems:
    """Code paths and what happened on the way.

    Attributes:
        codes: shape (N, L), or (N, L + 1) where the policy "level" had to append one.
        collisions_before: counts of `quality.collision_counts` before the policy was applied, of
            the items with a vector.
        unknown: items without a vector.
        relative_errors: see `Quantised`. L entries.
    """

    codes: Int32Array
    collisions_before: dict[str, int]
    unknown: int
    relative_errors: tuple[float, ...]


def assign_semantic_ids(
    dataset: Dataset,
    options: SemanticIdOptions,
    *,
    replace_ids: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Dataset, dict[str, Any]]:
    """Return the dataset with semantic IDs, and a report on them.

    IDs are made from the train split alone; the report also looks at the valid split. Everything
    runs on one thread: sums that are split over threads differ in their last bits, and a code may
    hang on one.

    Args:
        dataset: with or without semantic IDs.
        options: what was asked for.
        replace_ids: whether existing IDs may be replaced.
        note: told about each step.

    Raises:
        DatasetError: it has IDs already, or nothing to make them from; or the vectors are wrong.
        TrainingError: the options contradict each other.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    check_options(options)
    if dataset.has_semantic_ids and not replace_ids:
        problem = "the items have semantic IDs already; pass --overwrite-ids to replace them"
        raise DatasetError(f"dataset {dataset.name}", [problem])
    options = with_defaults(
        options,
        len(dataset.items),
        has_text=any(item_documents(dataset)),
        has_pairs=any(len(history) > 1 for history in dataset.histories("train")),
    )
    with threadpool_limits(limits=1):
        coded = code_items(embed(dataset, options, note), options, note)
    result = with_codes(dataset, coded.codes)
    return result, _report(result, coded, options)


def code_items(
    vectors: FloatArray,
    options: SemanticIdOptions,
    note: Callable[[str], None] = lambda text: None,
) -> CodedItems:
    """Quantise the vectors and settle collisions.

    Items without a vector take no part in the k-means. They get the first code of the catalogue's
    mean and free paths below it, so that a model meets them as one neighbourhood.

    Args:
        vectors: normalised rows, 0 where nothing is known; not all of them. Shape (N, d).
        options: with levels and codes filled in.
        note: told about each step.
    """
    assert options.levels is not None and options.codes is not None
    known: npt.NDArray[np.bool_] = (vectors != 0).any(axis=1)
    quantised = quantise(
        vectors[known],
        options.levels,
        options.codes,
        balance=options.balance,
        seed=options.seed,
        note=note,
    )
    before = quality.collision_counts(quantised.codes)
    note(f"{before['items']:,} items share a path with another one; policy {options.collisions}")
    settled = quantised.codes
    if options.collisions == "reassign":
        settled = reassign(settled, quantised.last_residuals, quantised.codebooks[-1].centroids)
    codes = np.empty((len(vectors), options.levels), np.int32)
    codes[known] = settled
    codes[~known] = _paths_of_unknown(vectors[known], quantised, settled, int((~known).sum()))
    if options.collisions == "level":
        codes = add_level(codes, _distances(quantised, known))
    return CodedItems(codes, before, int((~known).sum()), quantised.relative_errors)


def with_codes(dataset: Dataset, codes: Int32Array) -> Dataset:
    """Return the dataset with levels a, b, c, ... and the token paths of the codes.

    A level is as large as its highest code in use, so that no token id is without an item.

    Args:
        dataset: with or without semantic IDs.
        codes: shape (N, L).
    """
    names = string.ascii_lowercase[: codes.shape[1]]
    levels = make_levels(names, [int(highest) + 1 for highest in codes.max(axis=0)])
    items = replace(dataset.items, paths=codes_to_tokens(codes, levels))
    return replace(dataset, levels=levels, items=items)


def _paths_of_unknown(
    vectors: FloatArray, quantised: Quantised, codes: Int32Array, count: int
) -> Int32Array:
    mean = vectors.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
    first = int(quantised.codebooks[0].assign(mean)[0])
    sizes = tuple(len(codebook.centroids) for codebook in quantised.codebooks)
    return free_paths(codes, first, sizes, count)


def _distances(quantised: Quantised, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return each item's distance to its last centroid, infinite for items without a vector."""
    distances = np.full(len(known), np.inf)
    centroids = quantised.codebooks[-1].centroids
    last = quantised.codes[:, -1]
    distances[known] = squared_distances(quantised.last_residuals, centroids, last)
    return distances


def _report(dataset: Dataset, coded: CodedItems, options: SemanticIdOptions) -> dict[str, Any]:
    codes = coded.codes
    usage = quality.level_usage(codes)
    # The appended level only counts: it has no error of its own.
    for entry, error in zip(usage, coded.relative_errors, strict=False):
        entry["relative_error"] = round(error, 6)
    settings = asdict(options)
    settings["vectors"] = options.vectors.name if options.vectors else None
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "options": settings,
        "items": len(dataset.items),
        "items_without_information": coded.unknown,
        "distinct_paths": dataset.counts()["semantic_ids"],
        "collisions_before": coded.collisions_before,
        "collisions": quality.collision_counts(codes),
        "levels": [
            {"name": level.name, **entry}
            for level, entry in zip(dataset.levels, usage, strict=True)
        ],
        "prefix_tree": quality.prefix_tree(codes),
        "prefix_lift": {
            "train": quality.prefix_lift(codes, *quality.consecutive_pairs(dataset, "train")),
            "valid": quality.prefix_lift(codes, *quality.consecutive_pairs(dataset, "valid")),
        },
    }
