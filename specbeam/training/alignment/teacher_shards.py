"""Teacher data on disk: what a target's beam search found for some prompts.

A shard is one safetensors file that says what it was made from and carries a digest of its
content.  Prompts are kept as items, not as tokens, beams as trie nodes; log-probabilities are
ragged, candidate by candidate, so that nothing is stored that the trie does not hold.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from specbeam.catalog.array_file import content_hash
from specbeam.training.alignment.teacher_source import TeacherSource, different_fields
from specbeam.training.errors import TrainingError

FORMAT = "specbeam-teacher-1"

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float16Array = npt.NDArray[np.float16]


class TeacherDataError(TrainingError):
    """Teacher data are damaged, or were made from something else."""


@dataclass(frozen=True, slots=True)
class TeacherShard:
    """The target's searches for P prompts.

    Attributes:
        items: items of all histories, as numbered by the trie. Shape (M,).
        item_begin: where each prompt's items begin, and M at the end. Shape (P + 1,).
        beams: best nodes of levels 1 .. L, best first, -1 where there are fewer. (P, W_d) each.
        scores: their cumulative log-probabilities, -inf where dead. (P, W_d) each.
        logprobs: of the candidates of the root, of each living beam of level 1, and so on to level
            L - 1, prompt by prompt: the children in order, then everything else if the scores are
            normalised over all token ids. Shape (E,).
        logprob_begin: where each prompt's entries begin, and E at the end. Shape (P + 1,).
    """

    items: Int32Array
    item_begin: Int64Array
    beams: tuple[Int32Array, ...]
    scores: tuple[Float32Array, ...]
    logprobs: Float16Array
    logprob_begin: Int64Array

    def __len__(self) -> int:
        """Number of prompts, P."""
        return len(self.item_begin) - 1


def shard_path(directory: Path, index: int) -> Path:
    """Return where a shard lies."""
    return directory / f"{index:05d}.safetensors"


def write_shard(directory: Path, index: int, shard: TeacherShard, source: TeacherSource) -> None:
    """Write a shard; it appears whole or not at all.

    Args:
        directory: of the teacher data.
        index: number of the shard.
        shard: what to write.
        source: what it was made from.
    """
    arrays = _arrays(shard)
    metadata = {
        "format": FORMAT,
        "index": str(index),
        "source": source.to_json(),
        "digest": content_hash(arrays),
    }
    path = shard_path(directory, index)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(save(arrays, metadata=metadata))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def read_shard(directory: Path, index: int, source: TeacherSource) -> TeacherShard:
    """Read what `write_shard` wrote.

    Args:
        directory: of the teacher data.
        index: number of the shard.
        source: what it has to be made from.

    Raises:
        TeacherDataError: it is missing, damaged, or made from something else.
    """
    path = shard_path(directory, index)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        _check_metadata(metadata, index, source, path)
        if content_hash(arrays) != metadata["digest"]:
            raise TeacherDataError(f"{path} is damaged: its content does not match its digest")
        return _shard(arrays)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        if isinstance(error, TeacherDataError):
            raise
        raise TeacherDataError(
            f"{path} cannot be read ({error}); remove it to have it made again"
        ) from error


def _check_metadata(
    metadata: dict[str, str], index: int, source: TeacherSource, path: Path
) -> None:
    """Check that a shard is the one that is wanted.

    Raises:
        TeacherDataError: it is not.
    """
    if metadata.get("format") != FORMAT:
        raise TeacherDataError(f"{path} is not a shard of format {FORMAT}")
    different = different_fields(source, json.loads(metadata["source"]))
    if different:
        raise TeacherDataError(f"{path} was made with another {', '.join(different)}")
    if metadata["index"] != str(index):
        raise TeacherDataError(f"{path} is shard {metadata['index']}, not {index}")


def _arrays(shard: TeacherShard) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        "items": shard.items,
        "item_begin": shard.item_begin,
        "logprobs": shard.logprobs,
        "logprob_begin": shard.logprob_begin,
    }
    for level, (beams, scores) in enumerate(zip(shard.beams, shard.scores, strict=True), 1):
        arrays[f"beams_{level}"], arrays[f"scores_{level}"] = beams, scores
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _shard(arrays: dict[str, np.ndarray]) -> TeacherShard:
    levels = range(1, 1 + sum(name.startswith("beams_") for name in arrays))
    return TeacherShard(
        items=arrays["items"],
        item_begin=arrays["item_begin"],
        beams=tuple(arrays[f"beams_{level}"] for level in levels),
        scores=tuple(arrays[f"scores_{level}"] for level in levels),
        logprobs=arrays["logprobs"],
        logprob_begin=arrays["logprob_begin"],
    )
