from pathlib import Path

import pytest

from specbeam.training.data.atspeed import import_atspeed
from specbeam.training.errors import DatasetError


def test_import_reads_items_levels_and_splits(atspeed_dir: Path) -> None:
    dataset = import_atspeed(atspeed_dir)
    assert dataset.name == "toys"
    assert [(lv.name, lv.token_offset, lv.size) for lv in dataset.levels] == [
        ("a", 3, 3),
        ("b", 6, 4),
        ("c", 10, 5),
    ]
    assert dataset.vocab_size == 15
    assert dataset.items.item_ids == ("1", "2", "3", "4")
    assert dataset.items.paths.tolist() == [[4, 9, 10], [3, 8, 11], [3, 8, 11], [5, 6, 14]]
    assert dataset.items.titles[0] == "item 1 (a_1 b_3 c_0)"
    assert dataset.items.topics[3] == ("a_2",)
    assert dataset.items.popularity.tolist() == [2, 3, 0, 2]
    assert [h.tolist() for h in dataset.histories("train")] == [[0, 1], [3, 0, 1], [1, 3]]
    assert [h.tolist() for h in dataset.histories("valid")] == [[2], [], [0]]
    assert [h.tolist() for h in dataset.histories("test")] == [[3], [2], []]
    assert dataset.counts()["semantic_ids"] == 3


def test_time_counts_through_the_splits_of_a_user(atspeed_dir: Path) -> None:
    interactions = import_atspeed(atspeed_dir).interactions
    assert interactions.time[interactions.user == 0].tolist() == [0, 1, 2, 3]


def test_every_problem_is_reported_with_its_line(atspeed_dir: Path) -> None:
    (atspeed_dir / "sequential_train.txt").write_text("1 1 9\n2 4 x\n\n1 2\n")
    (atspeed_dir / "sequential_valid.txt").unlink()
    (atspeed_dir / "toys.LCRec.json").write_text(
        '{"0": ["<a_1>", "<b_3>"], "1": ["<a_1>", "b3"], "k": ["<a_1>"], "2": ["<a_1>", "<c_3>"]}'
    )
    with pytest.raises(DatasetError) as caught:
        import_atspeed(atspeed_dir)
    text = "\n".join(caught.value.problems)
    for part in (
        "sequential_train.txt:1: item 9 has no codes (no key 8 in the index)",
        "sequential_train.txt:2: 'x' is not an id",
        "sequential_train.txt:3: empty line",
        "sequential_train.txt:4: user 1 already has line 1",
        "sequential_valid.txt is missing",
        "item 1: 'b3' does not look like '<a_12>'",
        "key 'k' is not an item number",
        "item 2: levels a/c differ from a/b of the first item",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"0": [\n', "line 2"),
        ("[]", "expected a non-empty object"),
        ('{"0": "<a_1>"}', "expected a list of code tokens"),
    ],
)
def test_a_broken_index_is_explained(atspeed_dir: Path, content: str, problem: str) -> None:
    (atspeed_dir / "toys.LCRec.json").write_text(content)
    with pytest.raises(DatasetError, match=problem):
        import_atspeed(atspeed_dir)


def test_two_indexes_are_refused(atspeed_dir: Path) -> None:
    (atspeed_dir / "other.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"other\.json, toys\.LCRec\.json"):
        import_atspeed(atspeed_dir)
