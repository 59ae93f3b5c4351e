import json
from pathlib import Path

import pytest

from specbeam.bundle import Bundle, load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.main import run


def arguments(dataset_dir: Path, out: Path, bundle: Bundle, *more: str) -> list[str]:
    limits = ["--draft-steps", "2", "--threads", "1", "--preset", "tiny"]
    return [
        "train",
        str(dataset_dir),
        str(out),
        "--align",
        "--from",
        str(bundle.path),
        *limits,
        *more,
    ]


def test_the_command_aligns_and_reports(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--loss", "atspeed-s", "--prompts", "30", "--teacher-data", str(tmp_path / "t")]
    out = tmp_path / "a.bundle"
    assert run(arguments(dataset_dir, out, bundle, *shared, "--json")) == exit_codes.OK
    captured = capsys.readouterr()
    entry = json.loads(captured.out)
    assert (entry["loss"], entry["training"]["steps"]) == ("atspeed-s", 2)
    assert entry["teacher_data"]["prompts"] == 256
    assert "teacher data" in captured.err and "draft step 2" in captured.err
    out = tmp_path / "b.bundle"
    more = ["--temperature", "0.5", "--top-k", "5", "--alpha", "0.7", "--drafter-name", "second"]
    assert run(arguments(dataset_dir, out, bundle, *shared, *more)) == exit_codes.OK
    captured = capsys.readouterr()
    assert "node_share" in captured.out and "before (default)" in captured.out
    assert "0 of them made now" in captured.err
    made = load_bundle(out)
    assert made.manifest.drafters == ("default", "second")
    entry = json.loads((out / "report.json").read_text())["alignment"]
    assert (entry["temperature"], entry["top_k"], entry["alpha"]) == (0.5, 5, 0.7)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--dropout", "0.1"], exit_codes.USAGE, "--dropout cannot be used with --align"),
        (["--name", "x"], exit_codes.USAGE, "--name cannot be used with --align"),
        (["--loss", "nothing"], exit_codes.USAGE, "nothing"),
        (["--temperature", "2"], exit_codes.BAD_INPUT, "distillation has no temperature"),
        (["--start", "nobody"], exit_codes.BAD_INPUT, "no drafter 'nobody'"),
        (["--resume"], exit_codes.BAD_INPUT, "nothing to resume"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path,
    dataset_dir: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    message: str,
) -> None:
    assert run(arguments(dataset_dir, tmp_path / "b", bundle, *more)) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_align_and_its_options_need_each_other(
    tmp_path: Path, dataset_dir: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["train", str(dataset_dir), str(tmp_path / "b")]
    assert run([*plain, "--align"]) == exit_codes.USAGE
    assert "--from BUNDLE" in capsys.readouterr().err
    assert run([*plain, "--from", str(bundle.path), "--alpha", "1"]) == exit_codes.USAGE
    assert "--from, --alpha is used only with --align" in capsys.readouterr().err
