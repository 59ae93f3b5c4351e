import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specbeam.training.data.cleaning import Cleaning
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.dataset_files import read_dataset, write_dataset
from specbeam.training.data.export import export_dataset
from specbeam.training.data.splits import SplitRule
from specbeam.training.data.tables.importing import import_table
from specbeam.training.data.tables.options import ItemFields, LogFields, TableImport
from specbeam.training.errors import DatasetError
from tests.unit.training.test_dataset import assert_equal

LOG = """user_id,item_id,timestamp
u2,b,100
u1,a,300
u2,a,50
u1,c,200
u1,b,200
u2,c,100
"""
TYPED_HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def log_of(folder: Path, text: str = LOG) -> Path:
    return write(folder / "log.csv", text)


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    """Return each user's item ids, oldest first, splits together."""
    result: dict[str, list[str]] = defaultdict(list)
    for user, item in zip(
        dataset.interactions.user.tolist(), dataset.interactions.item.tolist(), strict=True
    ):
        result[dataset.interactions.user_ids[user]].append(dataset.items.item_ids[item])
    return dict(result)


def problems_of(request: TableImport) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        import_table(request)
    return list(caught.value.problems)


def test_users_and_items_are_numbered_by_first_row_and_sorted_by_time(tmp_path: Path) -> None:
    dataset = import_table(TableImport(log_of(tmp_path)))
    assert dataset.name == "log"
    assert dataset.interactions.user_ids == ("u2", "u1")
    assert dataset.items.item_ids == dataset.items.titles == ("b", "a", "c")
    assert not dataset.has_semantic_ids
    # Equal times stay in the order of the file.
    assert sequences(dataset) == {"u2": ["a", "b", "c"], "u1": ["c", "b", "a"]}
    assert dataset.interactions.time.tolist() == [50000, 100000, 100000, 200000, 200000, 300000]
    assert dataset.interactions.split.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.items.popularity.tolist() == [0, 1, 1]


def test_every_format_gives_the_same_dataset(tmp_path: Path) -> None:
    expected = import_table(TableImport(log_of(tmp_path)))
    rows = [line.split(",") for line in LOG.splitlines()[1:]]
    records = [
        {"user_id": user, "item_id": item, "timestamp": int(time)} for user, item, time in rows
    ]
    lines = "\n\n".join(map(json.dumps, records))
    files = [
        write(tmp_path / "log.tsv", LOG.replace(",", "\t")),
        write(tmp_path / "log.txt", LOG.replace(",", ";").replace("\n", "\r\n")),
        write(tmp_path / "log.inter", TYPED_HEADER + LOG.partition("\n")[2].replace(",", "\t")),
        write(tmp_path / "log.jsonl", lines),
        write(tmp_path / "log.json", json.dumps(records)),
        tmp_path / "log.csv.gz",
        tmp_path / "log.ndjson.gz",
        tmp_path / "log.parquet",
    ]
    files[5].write_bytes(gzip.compress(LOG.encode()))
    files[6].write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(records), files[7])
    for file in files:
        dataset = import_table(TableImport(file))
        assert dataset.provenance["rows"] == expected.provenance["rows"]
        assert_equal(dataset, expected)


def test_whole_numbers_are_ids_however_they_are_stored(tmp_path: Path) -> None:
    table = pa.table({"user_id": [1.0, 2.0], "item_id": [7, 7], "timestamp": [1, 2]})
    pq.write_table(table, tmp_path / "log.parquet")
    dataset = import_table(TableImport(tmp_path / "log.parquet"))
    assert dataset.interactions.user_ids == ("1", "2")
    assert dataset.items.item_ids == ("7",)
    mixed = '{"user_id": 1, "item_id": "x", "timestamp": 5}\n{"user_id": "1", "item_id": 7, '
    file = write(tmp_path / "log.jsonl", mixed + '"timestamp": "1970-01-01T00:00:09"}\n')
    assert "most rows have Unix seconds" in problems_of(TableImport(file))[0]
    file.write_text(file.read_text().replace('"1970-01-01T00:00:09"', "9"))
    assert sequences(import_table(TableImport(file))) == {"1": ["x", "7"]}


def test_usual_names_are_recognised(tmp_path: Path) -> None:
    file = log_of(tmp_path, LOG.replace("user_id,item_id,timestamp", "reviewerID,movieId,time"))
    provenance = import_table(TableImport(file)).provenance
    assert provenance["columns"] == {"users": "reviewerID", "items": "movieId", "times": "time"}
    assert provenance["guessed_columns"] == ["movieId", "reviewerID", "time"]
    assert provenance["times"] == "Unix seconds"


def test_columns_that_are_missing_or_doubtful_are_all_named(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", "uid,asin,parent_asin,note\n1,2,3,4\n")
    problems = problems_of(TableImport(file, log_fields=LogFields(user="buyer")))
    assert len(problems) == 3
    assert "column 'buyer' (--user-field) is not there" in problems[0]
    assert "'asin', 'parent_asin' may all hold the items; choose with --item-field" in problems[1]
    assert "no column 'timestamp' for the times" in problems[2]


def test_every_kind_of_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    text = (
        "user_id,item_id,timestamp,rating\n"
        'u1,"a",100,5\n'
        "\n"
        'u1,"b\nb",100,5\n'  # lines 4 and 5
        "u1,c\n"  # 6
        ",a,100,5\n"
        "u1, ,100,5\n"
        "u1,a,soon,5\n"
        "u1,a,,5\n"  # 10
        "u1,a,100000000000000,5,6\n"
        "u1,a,1714564800000,5\n"  # 12
        "u1,a,100,good\n"
    )
    request = TableImport(log_of(tmp_path, text), cleaning=Cleaning(min_rating=1))
    assert problems_of(request) == [
        "log.csv:6: 2 cells, the header has 4",
        "log.csv:11: 5 cells, the header has 4",
        "log.csv:7: no user id",
        "log.csv:8: no item id",
        "log.csv:9: 'soon' is no time (Unix seconds, Unix milliseconds or ISO 8601)",
        "log.csv:10: no time",
        "log.csv:12: time '1714564800000': most rows have Unix seconds",
        "log.csv:13: rating 'good' is no number",
    ]


def test_one_mistake_in_many_rows_does_not_flood(tmp_path: Path) -> None:
    rows = "".join(f"u{row},a,100\n,b,100\n" for row in range(1239))
    problems = problems_of(TableImport(log_of(tmp_path, "user_id,item_id,timestamp\n" + rows)))
    assert problems[:2] == ["log.csv:3: no user id", "log.csv:5: no user id"]
    assert problems[5:] == ["log.csv: no user id: and 1,234 more rows"]


def test_broken_json_lines_are_named(tmp_path: Path) -> None:
    good = '{"user_id": "u", "item_id": "a", "timestamp": 5}\n'
    file = write(tmp_path / "log.jsonl", f'{good}\n{{broken\n[1]\n{good[:-2]}, "x": 1}}\n')
    problems = problems_of(TableImport(file))
    assert problems[0].startswith("log.jsonl:3: column 2")
    assert problems[1] == "log.jsonl:4: no object: [1]"
    file.write_text(f'{good}\n{{"user_id": "u", "timestamp": 7}}\n')
    assert problems_of(TableImport(file)) == ["log.jsonl:3: no item id"]


def test_parquet_rows_are_counted(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u", None], "item_id": ["a", "b"], "timestamp": [1, 2]})
    pq.write_table(table, tmp_path / "log.parquet")
    assert problems_of(TableImport(tmp_path / "log.parquet")) == ["log.parquet row 2: no user id"]
    table = pa.table({"user_id": [["u"]], "item_id": ["a"], "timestamp": [1]})
    pq.write_table(table, tmp_path / "log.parquet")
    assert "holds list" in problems_of(TableImport(tmp_path / "log.parquet"))[0]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("log.csv", b"", "empty"),
        ("log.csv", b"user_id,item_id,timestamp\n", "it has no rows"),
        ("log.csv", b"\xff\xfeu\x00", "not UTF-8"),
        ("log.parquet", b"nothing", "Parquet"),
        ("log.json", b"{", "cannot be read"),
        ("log.jsonl", b"\n", "it has no rows"),
        ("log.xlsx", b"", "is not one of .csv"),
    ],
)
def test_files_that_are_no_tables_are_explained(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem in " ".join(problems_of(TableImport(tmp_path / name)))


def test_each_rule_counts_what_it_drops(tmp_path: Path) -> None:
    text = (
        "user_id,item_id,timestamp,stars\n"
        "u1,a,1,5\nu1,a,1,5\nu1,a,9,5\n"  # a duplicate, a repeat
        "u1,b,2,1\n"  # rated low
        "u1,c,3,5\nu1,d,4,5\nu2,c,1,5\nu2,d,2,4\n"
        "u3,a,1,5\n"  # too few
    )
    cleaning = Cleaning(min_rating=4, min_user_interactions=2, min_item_interactions=2)
    dataset = import_table(TableImport(log_of(tmp_path, text), cleaning=cleaning))
    assert dataset.provenance["rows"] == {
        "read": 9,
        "unknown_items": 0,
        "below_min_rating": 1,
        "exact_duplicates": 1,
        "repeats": 1,
        "too_few_interactions": 2,
        "kept": 4,
    }
    assert sequences(dataset) == {"u1": ["c", "d"], "u2": ["c", "d"]}
    assert dataset.items.item_ids == ("c", "d")
    kept = import_table(
        TableImport(log_of(tmp_path, text), cleaning=cleaning, keep_rare_items=True)
    )
    assert kept.items.item_ids == ("a", "c", "d")
    last = import_table(TableImport(log_of(tmp_path, text), cleaning=Cleaning(repeats="last")))
    assert sequences(last)["u1"] == ["b", "c", "d", "a"]


def test_rules_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    request = TableImport(log_of(tmp_path), cleaning=Cleaning(min_user_interactions=9))
    assert problems_of(request) == ["no interactions are left; dropped: too_few_interactions 6"]


ITEMS: list[dict[str, Any]] = [
    {
        "item_id": "a",
        "title": "Ink &amp; Paper",
        "description": "['<p>Black&nbsp;ink.</p><style>p {}</style>', 'Lasts.']",
        "brand": "HP",
        "categories": ["Office", "Ink"],
        "created_at": "2024-05-01",
    },
    {"item_id": "cold", "title": "Never taken", "categories": ["Office"], "created_at": None},
    {"item_id": "b", "title": "", "brand": "", "categories": None},
    {"item_id": "c", "title": "C", "brand": "HP", "categories": ["Ink"]},
]


def test_items_bring_titles_texts_topics_tags_and_cold_items(tmp_path: Path) -> None:
    items = write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, ITEMS)))
    fields = ItemFields(tags=(("brand", "brand"),))
    request = TableImport(log_of(tmp_path), items, item_fields=fields)
    dataset = import_table(request)
    got = dataset.items
    assert got.item_ids == ("a", "cold", "b", "c")
    assert got.titles == ("Ink & Paper", "Never taken", "b", "C")
    assert got.texts[0] == "Black ink. Lasts. HP Office Ink"
    assert got.texts[2] == ""
    assert got.topics == (("Office", "Ink"), ("Office",), (), ("Ink",))
    assert got.tags[0] == ("topic:Office", "topic:Ink", "brand:HP")
    assert got.created_at == (1_714_521_600, None, None, None)
    assert sequences(dataset) == {"u2": ["a", "b", "c"], "u1": ["c", "b", "a"]}
    assert dataset.provenance["item_columns"]["texts"] == ["description", "brand", "categories"]
    keyed = write(
        tmp_path / "items.json", json.dumps({row["item_id"]: row for row in ITEMS}, indent=1)
    )
    assert_equal(import_table(TableImport(log_of(tmp_path), keyed, item_fields=fields)), dataset)
    seen = import_table(TableImport(log_of(tmp_path), items, only_seen_items=True))
    assert seen.items.item_ids == ("a", "b", "c")


def test_unknown_items_are_problems_dropped_or_kept(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "item_id,title\na,A\nb,B\n")
    assert problems_of(TableImport(log_of(tmp_path), items)) == [
        "log.csv:5: item 'c' is not in items.csv",
        "log.csv:7: item 'c' is not in items.csv",
    ]
    dropped = import_table(TableImport(log_of(tmp_path), items, unknown_items="drop"))
    assert dropped.provenance["rows"]["unknown_items"] == 2
    assert dropped.items.item_ids == ("a", "b")
    kept = import_table(TableImport(log_of(tmp_path), items, unknown_items="keep"))
    assert kept.items.titles == ("A", "B", "c")
    broken = write(tmp_path / "broken.csv", "item_id,title\na,A\nb,B\na,again\n")
    assert problems_of(TableImport(log_of(tmp_path), broken)) == [
        "log.csv:5: item 'c' is not in broken.csv",
        "log.csv:7: item 'c' is not in broken.csv",
        "broken.csv:4: item 'a' is already described at broken.csv:2",
    ]


def test_bad_items_are_reported_with_the_bad_rows_of_the_log(tmp_path: Path) -> None:
    items = write(
        tmp_path / "items.csv",
        "item_id,title,created_at\na,A,2024-05-01\n,B,\na,again,\nb,B,soon\nc,C,\n",
    )
    assert problems_of(TableImport(log_of(tmp_path, LOG + ",a,1\n"), items)) == [
        "log.csv:8: no user id",
        "items.csv:3: no item id",
        "items.csv:4: item 'a' is already described at items.csv:2",
        "items.csv:5: 'soon' is no creation time",
    ]
    fields = ItemFields(texts=("story",), tags=(("brand", "maker"),))
    problems = problems_of(TableImport(log_of(tmp_path), items, item_fields=fields))
    assert "items.csv: column 'story' (--text-field) is not there" in problems[0]
    assert "items.csv: column 'maker' (--tag-field) is not there" in problems[1]


def test_an_index_brings_semantic_ids(tmp_path: Path) -> None:
    codes = {"c": ["<a_2>", "<b_0>"], "a": ["<a_0>", "<b_1>"], "b": ["<a_0>", "<b_3>"]}
    index = write(tmp_path / "index.json", json.dumps(codes))
    dataset = import_table(TableImport(log_of(tmp_path), index=index))
    assert [level.size for level in dataset.levels] == [3, 4]
    assert dataset.items.paths.tolist() == [[3, 9], [3, 7], [5, 6]]
    index.write_text(json.dumps({"a": codes["a"]}))
    assert problems_of(TableImport(log_of(tmp_path), index=index)) == [
        "item 'b' has no codes in index.json",
        "item 'c' has no codes in index.json",
    ]
    index.write_text('{"a": ["<a_1>"], "a": ["<a_2>"], "b": 3}')
    assert "keys appear twice: 'a'" in problems_of(TableImport(log_of(tmp_path), index=index))[0]


def test_global_cuts_split_all_users_alike(tmp_path: Path) -> None:
    rule = SplitRule("global-time", cuts=(100_000, 300_000))
    dataset = import_table(TableImport(log_of(tmp_path), split=rule))
    assert dataset.interactions.split.tolist() == [0, 1, 1, 1, 1, 2]
    assert dataset.provenance["options"]["test_from_ms"] == 300_000


def test_export_then_import_gives_the_same_dataset(tmp_path: Path, small_dataset: Dataset) -> None:
    for unix_times in (False, True):
        export_dataset(small_dataset, tmp_path / "out", unix_times=unix_times, overwrite=True)
        dataset = import_table(
            TableImport(
                tmp_path / "out" / "interactions.csv",
                tmp_path / "out" / "items.csv",
                tmp_path / "out" / "index.json",
                cleaning=Cleaning(repeats="all"),
                name=small_dataset.name,
            )
        )
        assert dataset.items.item_ids == small_dataset.items.item_ids
        assert dataset.items.titles == small_dataset.items.titles
        assert dataset.items.topics == small_dataset.items.topics
        assert dataset.items.tags == small_dataset.items.tags
        assert dataset.interactions.user_ids == small_dataset.interactions.user_ids
        for name in ("user", "item", "time"):
            np.testing.assert_array_equal(
                getattr(dataset.interactions, name), getattr(small_dataset.interactions, name)
            )
        # An index does not say how many codes a level has beyond the highest one used.
        offsets = np.array([level.token_offset for level in small_dataset.levels])
        codes = small_dataset.items.paths - offsets
        got = dataset.items.paths - np.array([level.token_offset for level in dataset.levels])
        np.testing.assert_array_equal(got, codes)


def test_where_it_came_from_is_kept_on_disk(tmp_path: Path) -> None:
    dataset = import_table(TableImport(log_of(tmp_path)))
    write_dataset(dataset, tmp_path / "d")
    read = read_dataset(tmp_path / "d")
    assert read.provenance == dataset.provenance
    assert_equal(read, dataset)
    assert str(tmp_path) not in (tmp_path / "d" / "dataset.json").read_text()
