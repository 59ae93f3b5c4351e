from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from specbeam.training.data.tables.times import format_time, parse_time, read_times

NOON = 1_714_564_800_000  # 2024-05-01T12:00:00Z


def column(values: Sequence[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-05-01", NOON - 12 * 3_600_000),
        ("2024-05-01 12:00", NOON),
        ("2024-05-01T12:00:00", NOON),
        ("2024-05-01T12:00:00.250", NOON + 250),
        ("2024-05-01T12:00:00.250999999", NOON + 250),
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01 14:00:00.5+0200", NOON + 500),
        ("20240501T140000+0200", NOON),  # as only the standard library reads it
        (" 1714564800 ", NOON),
        ("1714564800.25", NOON + 250),
        ("1714564800001", NOON + 1),
        ("1.7145648e9", NOON),
    ],
)
def test_times_are_read_however_they_are_written(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01", "-5", "nan", "1e15", "1960-01-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


def test_many_iso_texts_agree_with_the_standard_library() -> None:
    rng = np.random.default_rng(0)
    zones = [None, UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30))]
    times = [
        datetime.fromtimestamp(int(seconds), UTC).replace(
            microsecond=1000 * int(rng.integers(1000)), tzinfo=zones[int(rng.integers(4))]
        )
        for seconds in rng.integers(10**6, 2 * 10**9, 300)
    ]
    expected = [round(1000 * t.replace(tzinfo=t.tzinfo or UTC).timestamp()) for t in times]
    read = read_times(column([t.isoformat() for t in times]))
    assert read.ms.tolist() == expected
    assert read.kind == "ISO 8601"


def test_rows_of_another_kind_than_most_are_named() -> None:
    texts = ["1714564800", "1714564800000", "1714564801", "x", "2024-05-01", "1714564802", None]
    times = read_times(column(texts))
    assert times.kind == "seconds"
    assert times.unreadable.tolist() == [3, 6]
    assert times.other.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([NOON // 1000], pa.int64()),
        ([float(NOON)], pa.float64()),
        ([datetime(2024, 5, 1, 12)], pa.timestamp("s")),
        ([datetime(2024, 5, 1, 12)], pa.timestamp("ns")),
        ([datetime(2024, 5, 1, 12, tzinfo=UTC)], pa.timestamp("us", "Asia/Tokyo")),
    ],
)
def test_typed_columns_are_read(values: list[object], kind: pa.DataType) -> None:
    assert read_times(column(values, kind)).ms.tolist() == [NOON]


def test_dates_and_gaps_are_read() -> None:
    times = read_times(column([date(2024, 5, 1), None], pa.date32()))
    assert times.ms.tolist() == [NOON - 12 * 3_600_000, 0]
    assert times.unreadable.tolist() == [1]


def test_formatting_is_the_inverse() -> None:
    for ms in (0, 1, 999, NOON + 7):
        assert parse_time(format_time(ms)) == ms
