import json
import subprocess
import sys
from pathlib import Path

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import COMMANDS, run
from specbeam.training.data.dataset_files import read_dataset


def test_synthesize_writes_a_dataset_and_prints_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "demo.dataset"
    code = run(["data", "synthesize", str(target), "--items", "200", "--users", "20", "--json"])
    assert code == exit_codes.OK
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts == read_dataset(target).counts()
    assert counts["items"] == 200


def test_bad_input_is_one_message_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    target = tmp_path / "out"
    code = run(["data", "import", "--layout", "atspeed", str(source), str(target)])
    assert code == exit_codes.BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "4 problems" in error
    assert "Traceback" not in error
    assert not target.exists()


def test_an_existing_dataset_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "synthesize", str(tmp_path), "--items", "200", "--users", "5"]
    assert run(arguments) == exit_codes.BAD_INPUT
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nothing"], ["data", "import"], ["train", "--wrong"]])
def test_wrong_usage_has_its_own_code(arguments: list[str]) -> None:
    assert run(arguments) == exit_codes.USAGE


@pytest.mark.parametrize("command", ["data", "train", "evaluate"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == exit_codes.OK
    assert "Usage: specbeam " + command in capsys.readouterr().out


def test_help_lists_all_commands_without_importing_torch() -> None:
    code = (
        "import sys; from specbeam.cli.main import run; run(['--help']); "
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert all(command in result.stdout for command in COMMANDS)


LOG = "uid,item,ts\n" + "".join(
    f"u{user},i{item},{item}\n" for user in range(4) for item in range(5)
)


def test_a_log_is_imported_and_summarised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    arguments = ["data", "import", str(tmp_path / "log.csv"), str(tmp_path / "d")]
    assert run(arguments) == exit_codes.OK
    out = capsys.readouterr().out
    for part in (
        "layout table: log.csv is a file",
        "users from 'uid' (guessed), items from 'item' (guessed), times from 'ts' (guessed)",
        "rows read",
        "The items have no semantic IDs. Next: specbeam data semantic-ids",
    ):
        assert part in out
    assert run([*arguments, "--overwrite", "--json", "--min-item-interactions", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {
        "users": 4,
        "items": 5,
        "semantic_ids": 0,
        "train": 12,
        "valid": 4,
        "test": 4,
    }
    assert document["statistics"]["density"] == 1.0
    assert document["statistics"]["splits"]["test"]["on_unseen_items"] == 4
    assert document["import"]["options"]["min_item_interactions"] == 2


def test_all_options_of_a_log_reach_the_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.tsv").write_text(
        "who\twhat\twhen\tliked\n"
        + "".join(f"u{user}\ti{n}\t2024-05-0{n}\t{n}\n" for user in (1, 2) for n in range(1, 8))
    )
    (tmp_path / "items.csv").write_text(
        "id,called,about,kinds,made,maker\n"
        + "".join(f"i{n},Name {n},Text {n},K{n},2024-01-01,M{n}\n" for n in range(2, 9))
    )
    options = (
        "--layout table --name shop --user-field who --item-field what --time-field when "
        "--rating-field liked --min-rating 3 --repeats last --min-user-interactions 2 "
        "--min-item-interactions 2 --items-id-field id --title-field called --text-field about "
        "--topics-field kinds --created-field made --tag-field brand=maker --unknown-items drop "
        "--split global-time --valid-from 2024-05-05 --test-from 2024-05-07 --json"
    )
    code = run(
        [
            *("data", "import", str(tmp_path / "log.tsv"), str(tmp_path / "d")),
            *("--items", str(tmp_path / "items.csv"), *options.split()),
        ]
    )
    assert code == exit_codes.OK, capsys.readouterr().err
    dataset = read_dataset(tmp_path / "d")
    assert dataset.name == "shop"
    assert dataset.items.item_ids == ("i2", "i3", "i4", "i5", "i6", "i7", "i8")
    assert dataset.items.titles[0] == "Name 2"
    assert dataset.items.texts[0] == "Text 2"
    assert dataset.items.tags[0] == ("topic:K2", "brand:M2")
    assert dataset.items.created_at[0] == 1_704_067_200
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["train"], counts["valid"], counts["test"]) == (4, 4, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layout", "atspeed"], "layout atspeed reads a folder"),
        (["--ignore-index"], "layout table does not take --ignore-index"),
        (["--tag-field", "brand"], "is not PREFIX=COLUMN"),
        (["--valid-share", "0.2"], "need --split global-time"),
        (["--split", "global-time", "--valid-from", "2024-05-01"], "are given together"),
        (["--split", "global-time", "--valid-from", "x", "--test-from", "y"], "is no time"),
        (["--split", "global-time", "--valid-from", "9", "--test-from", "8"], "before valid"),
        (["--split", "global-time", "--valid-share", "0.95"], "leave some for train"),
    ],
)
def test_options_that_contradict_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    code = run(["data", "import", str(tmp_path / "log.csv"), str(tmp_path / "d"), *options])
    assert code == exit_codes.USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_folder_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "import", str(tmp_path), str(tmp_path / "d")]
    assert run([*arguments, "--layout", "table"]) == exit_codes.USAGE
    assert run(arguments) == exit_codes.BAD_INPUT
    assert "for layout table name the file of interactions" in capsys.readouterr().err


def test_export_writes_files_that_import_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, files, second = tmp_path / "a", tmp_path / "files", tmp_path / "b"
    run(["data", "synthesize", str(first), "--items", "200", "--users", "20"])
    assert run(["data", "export", str(first), str(files)]) == exit_codes.OK
    assert "index.json, interactions.csv, items.csv" in capsys.readouterr().out
    code = run(
        [
            *("data", "import", str(files / "interactions.csv"), str(second), "--repeats", "all"),
            *("--items", str(files / "items.csv"), "--index", str(files / "index.json")),
        ]
    )
    assert code == exit_codes.OK
    before, after = read_dataset(first), read_dataset(second)
    assert before.items.item_ids == after.items.item_ids
    assert before.interactions.user_ids == after.interactions.user_ids
    assert before.interactions.item.tolist() == after.interactions.item.tolist()
    assert before.interactions.time.tolist() == after.interactions.time.tolist()
