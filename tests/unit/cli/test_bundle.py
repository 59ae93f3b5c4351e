"""`specbeam bundle`: packing, showing and verifying, with exit codes and messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from specbeam.bundle import load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.main import run
from tests.bundles import tiny_bundle
from tests.checkpoints import code_tokens, llama_tokenizer, save_checkpoint

SIZES = (8, 8, 8)
ITEMS = 60
Pack = Callable[..., int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    return save_checkpoint(directory, "llama", llama_tokenizer(code_tokens(SIZES)), layers=1)


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("drafter")
    tokenizer = llama_tokenizer(code_tokens(SIZES))
    return save_checkpoint(directory, "llama", tokenizer, layers=1, hidden=16, seed=1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an index, item data, titles and a prompt."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(7**3, size=ITEMS, replace=False)
    codes = np.stack(np.unravel_index(chosen, (7, 7, 7)), axis=1)
    codes[1] = codes[0]
    index = {
        str(n): [f"<a_{row[0]}>", f"<b_{row[1]}>", f"<c_{row[2]}>"] for n, row in enumerate(codes)
    }
    items = {
        item_id: {
            "title": f"The kettle {item_id}",
            "brand": "Acme" if int(item_id) % 2 else "Other",
            "categories": "Kitchen, Kettles",
            "created_at": 1_400_000_000 + int(item_id),
        }
        for item_id in index
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "items.json").write_text(json.dumps(items))
    (tmp_path / "prompt.txt").write_text("Items: {history}\nNext:\n")
    return tmp_path


@pytest.fixture
def pack(files: Path, checkpoint: Path) -> Pack:
    def call(*arguments: str, target: Path = checkpoint, index: bool = True) -> int:
        source = ["--index", str(files / "index.json")] if index else []
        target_option = ["--target", str(target)]
        return run(
            ["bundle", "pack", str(files / "my.bundle"), *target_option, *source, *arguments]
        )

    return call


def test_a_checkpoint_is_packed_with_all_its_parts(
    files: Path, pack: Pack, drafter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("--items", str(files / "items.json")),
        *("--tag-field", "category=categories", "--tag-field", "brand"),
        *("--topic-field", "categories"),
        *("--prompt", str(files / "prompt.txt"), "--separator", ", "),
        *("--drafter", f"small={drafter}"),
        *("--window", "20", "--beam-width", "7", "--no-exclude-history"),
    ]
    assert pack(*arguments, "--json") == exit_codes.OK
    captured = capsys.readouterr()
    report = json.loads(captured.out)["packed"]
    assert "Warning" not in captured.err
    bundle = load_bundle(files / "my.bundle")
    manifest, trie = bundle.manifest, bundle.trie
    assert (report["items"], report["items_sharing_a_path"]) == (ITEMS, 2)
    assert manifest.name == "my"
    assert [(level.name, level.size) for level in manifest.levels] == [("a", 8), ("b", 8), ("c", 8)]
    assert (manifest.default_beam_width, manifest.exclude_history) == (7, False)
    assert manifest.drafters == ("small",)
    assert trie.tag_names == ("brand:Acme", "brand:Other", "category:Kettles", "category:Kitchen")
    assert len(trie.tagged_items("brand:Acme")) == ITEMS // 2
    assert (trie.created_ms(np.arange(ITEMS)) > 0).all()
    assert (bundle.template.window.max_items, bundle.template.window.stride) == (20, 4)
    assert bundle.tokenizer_dir is not None
    table = pq.read_table(bundle.items_file).to_pylist()
    assert table[3]["title"] == "The kettle 3"
    assert table[3]["topics"] == ["Kitchen", "Kettles"]


def test_a_tokenizer_is_not_needed_for_ids_and_codes(
    files: Path, checkpoint: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = files / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint / name, bare / name)
    assert pack(target=bare) == exit_codes.BAD_INPUT
    assert "token names need a tokenizer" in capsys.readouterr().err
    (files / "index.json").write_text('{"x": [50, 60], "y": [50, 61]}')
    assert pack("--id-offset", "1", target=bare) == exit_codes.BAD_INPUT
    assert pack("--end-token", "2", target=bare) == exit_codes.OK
    bundle = load_bundle(files / "my.bundle")
    assert [level.ranges for level in bundle.manifest.levels] == [
        ((50, 1),),
        ((60, 2),),
        ((2, 1),),
    ]
    assert bundle.template.prefix == (1,)
    assert bundle.tokenizer_dir is None
    # The end token that every item ends with is not shown.
    assert bundle.max_prompt_tokens == 1 + 50 * 2


def test_titles_become_items(files: Path, pack: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    titles = {"x": "the red kettle", "y": "the blue lamp", "z": "the red kettle"}
    (files / "titles.json").write_text(json.dumps(titles))
    options = ["--titles", str(files / "titles.json"), "--max-title-tokens", "5", "--window", "5"]
    assert pack(*options, index=False) == exit_codes.OK
    bundle = load_bundle(files / "my.bundle")
    assert (bundle.trie.num_items, bundle.trie.num_leaves) == (3, 2)
    assert bundle.manifest.levels == ()
    assert bundle.trie.level_tokens(bundle.trie.depth).tolist() == [2]
    assert bundle.template.history.end_tokens == (2,)
    assert "titles were cut after 5 tokens" in capsys.readouterr().err
    again = [*("--index", str(bundle.items_file)), *("--items", str(bundle.items_file))]
    arguments = ["--target", str(bundle.target_dir), *again]
    assert run(["bundle", "pack", str(files / "again"), *arguments]) == exit_codes.OK
    assert load_bundle(files / "again").trie.fingerprint == bundle.trie.fingerprint


def test_an_old_bundle_can_be_packed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tiny_bundle()
    catalogue = str(old.items_file)
    arguments = [
        *("--target", str(old.target_dir), "--drafter", f"default={old.drafter_dir('default')}"),
        *("--index", catalogue, "--items", catalogue),
    ]
    assert run(["bundle", "pack", str(tmp_path / "new"), *arguments]) == exit_codes.OK
    new = load_bundle(tmp_path / "new")
    assert new.trie.fingerprint == old.trie.fingerprint
    assert new.manifest.fingerprints.model == old.manifest.fingerprints.model
    assert new.template.prefix == old.template.prefix
    assert run(["bundle", "pack", str(tmp_path / "new"), *arguments]) == exit_codes.BAD_INPUT
    assert "--overwrite" in capsys.readouterr().err
    assert run(["bundle", "pack", str(tmp_path / "new"), *arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--drafter", "x"), "NAME=DIR"),
        (("--drafter", "x=a", "--drafter", "x=b"), "given twice"),
        (("--window", "5", "--stride", "6"), "--stride is at most --window"),
        (("--titles", "index.json"), "one of both"),
        (("--score-kind", "BEST"), "BEST"),
    ],
)
def test_wrong_usage_is_told(
    files: Path,
    pack: Pack,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert pack(*arguments) == exit_codes.USAGE
    assert message in capsys.readouterr().err


def test_wrong_input_is_one_message_and_leaves_nothing(
    files: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '{"1": ["<a_1>", "<b_99>"], "2": ["<a_98>"], "1": ["<a_1>", "<b_99>"], "x": [1, 999]}'
    (files / "index.json").write_text(text)
    before = set(files.iterdir())
    assert pack("--id-offset", "1") == exit_codes.BAD_INPUT
    error = capsys.readouterr().err
    assert "index.json: 5 problems" in error
    assert "key '1' appears twice" in error
    assert "different numbers of tokens" in error
    assert "needs numbers, 'x' is none" in error
    assert "<b_99>" in error
    assert "<a_98>" in error
    assert "Traceback" not in error
    assert set(files.iterdir()) == before


def test_models_must_share_one_vocabulary(
    files: Path, tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = llama_tokenizer(code_tokens((4,)))
    other = save_checkpoint(tmp_path / "other", "llama", tokenizer, layers=1)
    assert pack("--drafter", f"d={other}") == exit_codes.BAD_INPUT
    assert "drafter 'd' has a vocabulary of" in capsys.readouterr().err


def test_paths_that_begin_others_are_named(
    files: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "index.json").write_text('{"x": ["<a_1>", "<b_1>"], "y": ["<a_1>"]}')
    assert pack() == exit_codes.BAD_INPUT
    assert "they need --end-token" in capsys.readouterr().err
    assert pack("--end-token", "</s>") == exit_codes.OK


def test_tokens_without_an_embedding_are_refused(
    files: Path, tmp_path: Path, checkpoint: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    small = save_checkpoint(tmp_path / "small", "llama", llama_tokenizer(()), layers=1)
    assert pack("--tokenizer", str(checkpoint), target=small) == exit_codes.BAD_INPUT
    assert "were its embeddings resized" in capsys.readouterr().err


def test_show_tells_what_a_bundle_holds(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle()
    assert run(["bundle", "show", str(bundle.path), "--json"]) == exit_codes.OK
    summary = json.loads(capsys.readouterr().out)
    assert summary["target"]["model_type"] == "llama"
    assert summary["target"]["stored_as"] == {"F64": summary["target"]["parameters"]}
    assert summary["catalogue"]["items"] == bundle.trie.num_items
    assert summary["catalogue"]["levels"][0]["codes"] == 12
    assert summary["prompt"]["max_tokens"] == bundle.max_prompt_tokens
    assert run(["bundle", "show", str(bundle.path)]) == exit_codes.OK
    text = capsys.readouterr().out
    assert f"{bundle.trie.num_items:,} items" in text
    assert "[1] {history: the last 50 items}" in text


def test_show_of_no_bundle_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "show", str(tmp_path)]) == exit_codes.BAD_INPUT
    assert "manifest.json is missing" in capsys.readouterr().err


def test_a_sound_bundle_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny_bundle().path)
    assert run(["bundle", "verify", path]) == exit_codes.OK
    assert capsys.readouterr().out.endswith("sound\n")
    assert run(["bundle", "verify", path, "--deep", "--dtype", "fp64"]) == exit_codes.OK
    assert "one search in two ways" in capsys.readouterr().err


def test_every_problem_of_a_bundle_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle().path, bundle)
    (bundle / "prompt.json").write_text("{}")
    (bundle / "drafters/default/config.json").unlink()
    (bundle / "target/extra.json").write_text("{}")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["fingerprints"]["model"] = "0" * 32
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert run(["bundle", "verify", str(bundle), "--json"]) == exit_codes.BAD_INPUT
    problems = json.loads(capsys.readouterr().out)["problems"]
    for expected in (
        "prompt.json has 2 bytes",
        "prompt.json is not a prompt template",
        "drafters/default/config.json is missing",
        "target/extra.json is not listed in the manifest",
        "target/ is not the model the manifest names",
    ):
        assert any(problem.startswith(expected) for problem in problems), expected


def test_verify_finds_what_digests_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts that are whole each, and do not belong together."""
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle().path, bundle)
    shutil.copy(tiny_bundle(num_items=40).path / "catalog.idx", bundle / "catalog.idx")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["vocab_size"] += 1
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert run(["bundle", "verify", str(bundle)]) == exit_codes.BAD_INPUT
    text = capsys.readouterr().out
    assert "catalog.idx is not the catalogue the manifest names" in text
    assert "catalog.parquet: 260 items are not in the catalogue" in text
    assert "target: a vocabulary of 51 tokens, the manifest says 52" in text


@pytest.mark.parametrize("command", ["pack", "show", "verify"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", command, "--help"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert "Example" in text
    assert max(len(line) for line in text.splitlines()) <= 100
