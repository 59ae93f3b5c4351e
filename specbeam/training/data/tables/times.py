"""Columns of times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["seconds", "milliseconds", "ISO 8601"]
KINDS: tuple[Kind, ...] = ("seconds", "milliseconds", "ISO 8601")
KIND_NAMES = {
    "seconds": "Unix seconds",
    "milliseconds": "Unix milliseconds",
    "ISO 8601": "ISO 8601",
}

# Seconds below (until year 5138), milliseconds from here (since 1973) up to the limit.
FIRST_MILLISECONDS = 100_000_000_000
MAX_MILLISECONDS = 100_000_000_000_000
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
ZONE = r"\d[T ].*(Z|[+-]\d\d(:?\d\d)?)\s*$"
_UNKNOWN = len(KINDS)


@dataclass(frozen=True, slots=True)
class Times:
    """A column of times.

    Attributes:
        ms: Unix milliseconds, 0 in bad rows. Shape (M,).
        kind: how most rows are written; None if no row is a time.
        unreadable: numbers of rows that are no time.
        other: numbers of rows that are a time of another kind than most.
        kinds: index into `KINDS` per row. Shape (M,).
    """

    ms: npt.NDArray[np.int64]
    kind: Kind | None
    unreadable: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]


def read_times(column: pa.ChunkedArray) -> Times:
    """Read a column of Unix seconds, Unix milliseconds, ISO 8601 texts or Arrow timestamps.

    Numbers are seconds or milliseconds by their magnitude.  ISO times without a zone are UTC.
    Fractions of a millisecond are cut off.

    Args:
        column: numbers, texts, dates or timestamps. M rows.
    """
    if column.num_chunks == 0:
        column = pa.chunked_array([pa.array([], column.type)])
    parts = [_read_chunk(chunk) for chunk in column.chunks]
    ms = np.concatenate([part[0] for part in parts])
    kinds = np.concatenate([part[1] for part in parts])
    counts = np.bincount(kinds, minlength=_UNKNOWN + 1)[:_UNKNOWN]
    chosen = int(counts.argmax())
    unreadable = np.flatnonzero(kinds == _UNKNOWN)
    other = np.flatnonzero((kinds != chosen) & (kinds != _UNKNOWN))
    return Times(ms, KINDS[chosen] if counts.any() else None, unreadable, other, kinds)


def parse_time(value: str) -> int:
    """Return Unix milliseconds of one time, written in any of the three ways.

    Raises:
        ValueError: it is no time.
    """
    times = read_times(pa.chunked_array([pa.array([value], pa.string())]))
    if times.kind is None:
        raise ValueError(f"{value!r} is no time; write Unix seconds or ISO 8601, as in 2024-05-01")
    return int(times.ms[0])


def format_time(ms: int) -> str:
    """Return Unix milliseconds as ISO 8601 in UTC, as in 2024-05-01T12:00:00.000Z."""
    time = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _read_chunk(chunk: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return milliseconds and kind of each row."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if pa.types.is_timestamp(chunk.type) or pa.types.is_date(chunk.type):
        # Years that microseconds cannot hold are no times of interactions.
        micros = pc.cast(pc.cast(chunk, pa.timestamp("us"), safe=False), pa.int64())
        return _iso(_filled(micros, 0) // 1000, chunk.is_valid().to_numpy(zero_copy_only=False))
    if _is_number(chunk.type):
        return _numbers(_filled(pc.cast(chunk, pa.float64(), safe=False), np.nan))
    if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type):
        return _texts(chunk)
    return _iso(np.zeros(len(chunk), np.int64), np.zeros(len(chunk), bool))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _filled(array: pa.Array, value: float) -> npt.NDArray[Any]:
    filled: npt.NDArray[Any] = pc.fill_null(array, value).to_numpy(zero_copy_only=False)
    return filled


def _numbers(
    values: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    readable = (values >= 0) & (values < MAX_MILLISECONDS)  # false for NaN
    milliseconds = values >= FIRST_MILLISECONDS
    kinds = np.where(readable, milliseconds.astype(np.uint8), np.uint8(_UNKNOWN))
    plain = np.where(readable, values, 0.0)
    # Seconds to the nearest microsecond first: 1.001 s is no 1000.999 ms.
    ms = np.where(milliseconds, plain, np.round(1e6 * plain) / 1000.0)
    return np.floor(ms).astype(np.int64), kinds.astype(np.uint8)


def _iso(
    ms: npt.NDArray[np.int64], readable: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    good = readable & (ms >= 0) & (ms < MAX_MILLISECONDS)
    kinds = np.where(good, KINDS.index("ISO 8601"), _UNKNOWN).astype(np.uint8)
    return np.where(good, ms, 0), kinds


def _texts(chunk: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    chunk = pc.fill_null(chunk, "")
    number = pc.match_substring_regex(chunk, NUMBER)
    texts = pc.utf8_trim_whitespace(chunk)
    floats = pc.cast(pc.if_else(number, texts, pa.scalar(None, texts.type)), pa.float64())
    ms, kinds = _numbers(_filled(floats, np.nan))
    is_text = ~number.to_numpy(zero_copy_only=False)
    if is_text.any():
        rows = np.flatnonzero(is_text)
        ms[rows], kinds[rows] = _iso_texts(texts.filter(pc.invert(number)))
    return ms, kinds


def _iso_texts(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    zoned = pc.match_substring_regex(texts, ZONE)
    micros = np.zeros(len(texts), np.int64)
    try:
        for mask, kind in (
            (zoned, pa.timestamp("us", "UTC")),
            (pc.invert(zoned), pa.timestamp("us")),
        ):
            chosen = pc.cast(pc.cast(texts.filter(mask), kind), pa.int64())
            micros[mask.to_numpy(zero_copy_only=False)] = chosen.to_numpy()
    except pa.ArrowInvalid:
        # Some row is no time, or is written as only Python reads it.
        return _iso_one_by_one(texts.to_pylist())
    return _iso(micros // 1000, np.ones(len(texts), bool))


def _iso_one_by_one(
    values: list[str],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    def parsed() -> Iterator[tuple[int, bool]]:
        for value in values:
            try:
                time = datetime.fromisoformat(value)
            except ValueError:
                yield 0, False
                continue
            gap = time.replace(tzinfo=time.tzinfo or UTC) - datetime.fromtimestamp(0, UTC)
            yield (86_400 * gap.days + gap.seconds) * 1000 + gap.microseconds // 1000, True

    pairs = list(parsed())
    return _iso(np.array([ms for ms, _ in pairs], np.int64), np.array([ok for _, ok in pairs]))
