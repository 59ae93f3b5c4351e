import json
import random
from pathlib import Path

import pytest

from specbeam.training.data.dataset_files import read_dataset, write_dataset
from specbeam.training.data.layouts import detect_layout
from specbeam.training.data.minionerec import import_minionerec
from specbeam.training.data.sequences import UserSequence
from specbeam.training.errors import DatasetError
from tests.unit.training.test_dataset import assert_equal

INDEX = {
    "0": ["<a_1>", "<b_3>"],
    "1": ["<a_0>", "<b_2>"],
    "2": ["<a_0>", "<b_2>"],
    "3": ["<a_2>", "<b_0>"],
}
ITEMS = {
    "0": {
        "title": "Ink &amp; Paper",
        "description": "[\"<b>Black</b> ink.\", ' <!-- x --> Lasts.']",
        "brand": "HP",
        "categories": "Office, Ink",
    },
    "1": {"title": "Pen", "description": "", "brand": "", "categories": ""},
    "3": {"title": "Desk", "description": "Of oak.", "brand": "Oak Co", "categories": "Furniture"},
    "9": {"title": "No codes", "description": "", "brand": "", "categories": ""},
}
HEADER = "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid\n"


def rows(*cells: tuple[str, str, str]) -> str:
    lines = [f'{user},"[\'x, y\']",T,"{history}",{item},[],s\n' for user, history, item in cells]
    return HEADER + "".join(lines)


@pytest.fixture
def office(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    folder.mkdir()
    (folder / "Office.index.json").write_text(json.dumps(INDEX))
    (folder / "Office.item.json").write_text(json.dumps(ITEMS, indent=1))
    (folder / "info.txt").write_text("<a_0><b_2>\tPlain &amp; simple\t2\n")
    (folder / "valid.csv").write_text(
        rows(("B", "[3]", "0"), ("A", "[0, 1]", "2"), ("B", "[3, 0]", "1"))
    )
    (folder / "test.csv").write_text(rows(("A", "[0, 1, 2]", "3"), ("C", "['1']", "1")))
    return folder


def test_rows_become_sequences_items_and_semantic_ids(office: Path, tmp_path: Path) -> None:
    dataset = import_minionerec(office)
    assert dataset.name == "Office"
    assert [(level.name, level.size) for level in dataset.levels] == [("a", 3), ("b", 4)]
    items = dataset.items
    assert items.item_ids == ("0", "1", "3", "2")
    assert items.titles == ("Ink & Paper", "Pen", "Desk", "Plain & simple")
    assert items.texts[0] == "Black ink. Lasts. HP Office, Ink"
    assert items.topics == (("Office", "Ink"), (), ("Furniture",), ())
    assert items.tags[0] == ("topic:Office", "topic:Ink", "brand:HP")
    assert items.paths.tolist() == [[4, 9], [3, 8], [5, 6], [3, 8]]
    assert dataset.interactions.user_ids == ("B", "A", "C")
    assert [h.tolist() for h in dataset.histories("train")] == [[2], [0, 1], [1]]
    assert [h.tolist() for h in dataset.histories("valid")] == [[0, 1], [3], []]
    assert [h.tolist() for h in dataset.histories("test")] == [[], [2], [1]]
    assert dataset.interactions.time.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
    assert dataset.provenance["missing_files"] == ["train.csv"]
    write_dataset(dataset, tmp_path / "d")
    assert_equal(read_dataset(tmp_path / "d"), dataset)


def test_codes_can_be_ignored_and_repeats_dropped(office: Path) -> None:
    dataset = import_minionerec(office, ignore_index=True, repeats="first")
    assert not dataset.has_semantic_ids
    assert dataset.items.item_ids == ("0", "1", "3", "9", "2")
    assert dataset.provenance["rows"]["repeats"] == 1
    assert len(dataset.interactions) == 8
    for file in (office / "Office.index.json", office / "info.txt"):
        file.unlink()
    (office / "valid.csv").write_text(rows(("B", "[3]", "0")))
    (office / "test.csv").unlink()
    assert not import_minionerec(office, ignore_index=True).has_semantic_ids


def test_every_problem_is_reported_with_its_line(office: Path) -> None:
    (office / "Office.index.json").write_text('{"0": ["<a_1>", "b"], "1": ["<a_0>"]}')
    (office / "valid.csv").write_text(rows(("B", "3", "0"), (" ", "[0]", "1")))
    (office / "test.csv").write_text("user_id,item_id\nA,1\n")
    with pytest.raises(DatasetError) as caught:
        import_minionerec(office)
    assert list(caught.value.problems) == [
        "Office.index.json: item 0: 'b' does not look like '<a_12>'",
        "valid.csv:2: history '3' is no list of item ids",
        "valid.csv:3: no user id",
        "test.csv: no column history_item_id",
    ]


def test_items_without_codes_are_reported_with_their_row(office: Path) -> None:
    (office / "test.csv").write_text(rows(("A", "[0, 9]", "3"), ("A", "[0]", "77")))
    with pytest.raises(DatasetError) as caught:
        import_minionerec(office)
    assert list(caught.value.problems) == [
        "test.csv:2: item '9' is not in the index or the items",
        "test.csv:3: item '77' is not in the index or the items",
    ]


def test_a_folder_without_files_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        import_minionerec(tmp_path)
    assert len(caught.value.problems) == 2
    with pytest.raises(DatasetError, match="neither sequential_train"):
        detect_layout(tmp_path)


def test_layouts_are_told_apart(office: Path, atspeed_dir: Path) -> None:
    assert detect_layout(office)[0] == "minionerec"
    assert detect_layout(atspeed_dir)[0] == "atspeed"
    assert detect_layout(office / "test.csv")[0] == "table"


@pytest.mark.parametrize("seed", range(20))
def test_sequences_are_rebuilt_from_windows(seed: int) -> None:
    rng = random.Random(seed)
    items = [rng.randrange(30) for _ in range(25)]
    window, first = 6, rng.randrange(1, 10)
    sequence = UserSequence()
    for target in range(first, len(items)):
        split = 0 if target < 15 else 1 if target < 20 else 2
        sequence.add(items[max(0, target - window) : target], items[target], split, window)
    # Nothing before the first row's window can be known.
    begin = max(0, first - window)
    assert sequence.items == items[begin:]
    assert sequence.split == [0] * (15 - begin) + [1] * 5 + [2] * 5
    assert sequence.contradictions == sequence.gaps == 0


def test_rows_may_come_again_reach_back_or_leave_gaps() -> None:
    sequence = UserSequence()
    sequence.add([2, 3], 4, 1, 3)
    sequence.add([1, 2, 3], 4, 2, 3)
    assert (sequence.items, sequence.split) == ([1, 2, 3, 4], [0, 0, 0, 2])
    sequence.add([1, 2], 3, 1, 3)
    assert (sequence.items, sequence.split) == ([1, 2, 3, 4], [0, 0, 1, 2])
    sequence.add([4, 5, 6], 7, 2, 3)
    assert (sequence.items, sequence.split) == ([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 2, 0, 0, 2])
    assert (sequence.gaps, sequence.contradictions) == (1, 0)
    sequence.add([9, 9], 9, 2, 3)
    assert sequence.items == [1, 2, 3, 4, 5, 6, 7]
    assert sequence.contradictions == 1
