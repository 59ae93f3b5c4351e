"""A checkpoint made without specbeam, packed by the command and served, equals transformers.

What is expected comes from plain transformers code alone: the prompt as one text through the
checkpoint's own tokenizer, `generate` with a dictionary of allowed tokens, whole-sequence forwards.
Conditions of equality: fp64 with norms in fp64, VOCAB scores, no filter, one item per path, as many
children of the root as beams.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizer

from specbeam.bundle import Bundle, load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.main import run
from specbeam.client import Interaction, Recommendation
from tests.checkpoints import TOKENIZERS, code_tokens, exact_norms, save_checkpoint
from tests.stack import running

SIZES = (12, 12, 12)
PROMPT = "Below is the history of a customer, oldest first.\nItems: {history}\nNext:"
SEPARATOR = ", "
# In fp64 two scores closer than this may be rounded either way by another summation order.
NEAR_TIE = 1e-9
HISTORIES = [["i3"], ["i14", "i15", "i92"], ["i65", "i35", "i8", "i97", "i93", "i2", "i3"]]
TITLE_WORDS = ("red", "blue", "small", "green"), ("kettle", "lamp", "chair"), ("", " 2", " of")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint directory, opened by transformers."""

    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizer

    def prompt(self, items: list[str], answer: str = "") -> list[int]:
        text = PROMPT.replace("{history}", SEPARATOR.join(items)) + answer
        return list(self.tokenizer(text)["input_ids"])


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("checkpoints")
    tokenizer = TOKENIZERS[request.param](code_tokens(SIZES))
    target = save_checkpoint(directory / "target", request.param, tokenizer)
    save_checkpoint(directory / "draft", request.param, tokenizer, seed=1, layers=1, hidden=16)
    (directory / "prompt.txt").write_text(PROMPT + "\n")
    return Checkpoint(
        target,
        AutoModelForCausalLM.from_pretrained(target, dtype=torch.float64).eval(),
        AutoTokenizer.from_pretrained(target),
    )


def pack(checkpoint: Checkpoint, bundle: Path, *arguments: str) -> Bundle:
    folder = checkpoint.directory.parent
    options = [
        *("--target", str(checkpoint.directory), "--drafter", f"default={folder / 'draft'}"),
        *("--prompt", str(folder / "prompt.txt"), "--separator", SEPARATOR),
    ]
    assert run(["bundle", "pack", str(bundle), *options, *arguments]) == exit_codes.OK
    assert run(["bundle", "verify", str(bundle), "--deep", "--dtype", "fp64"]) == exit_codes.OK
    return load_bundle(bundle)


@pytest.mark.parametrize("ended", [False, True], ids=["codes", "line-end-and-eos"])
async def test_codes_are_served_as_transformers_generates_them(
    checkpoint: Checkpoint, tmp_path: Path, ended: bool
) -> None:
    index, tokenizer = random_index(), checkpoint.tokenizer
    line_end = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    ending = [line_end, tokenizer.eos_token_id] if ended else []
    (tmp_path / "index.json").write_text(json.dumps(index))
    arguments = ["--index", str(tmp_path / "index.json")]
    arguments += [word for token in ending for word in ("--end-token", str(token))]
    bundle = pack(checkpoint, tmp_path / "codes.bundle", *arguments)
    written = {
        item_id: [*names, *tokenizer.convert_ids_to_tokens(ending)]
        for item_id, names in index.items()
    }
    item_of = {tuple(names): item_id for item_id, names in written.items()}
    async with running(bundle) as stack:
        for history in HISTORIES:
            prompt = checkpoint.prompt(["".join(index[item]) for item in history])
            for num_items in (1, 5, 10):
                paths, scores = generate(checkpoint, prompt, written, num_items)
                for speculation in ("off", "on"):
                    answer = await ask(stack.client, history, num_items, speculation)
                    assert answer.work.speculation_used == (speculation == "on")
                    assert answer.debug is not None
                    assert list(answer.debug.prompt_token_ids) == prompt
                    compare(answer, [item_of[path] for path in paths], scores)


async def test_scores_by_level_count_codes_that_no_item_uses(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    used = {f"<{letter}_{code}>" for letter in "abc" for code in range(0, 12, 2)}
    index = {item_id: path for item_id, path in random_index().items() if used.issuperset(path)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    arguments = ["--index", str(tmp_path / "index.json"), "--score-kind", "LEVEL"]
    bundle = pack(checkpoint, tmp_path / "level.bundle", *arguments)
    assert [level.size for level in bundle.manifest.levels] == list(SIZES)
    history = list(index)[:3]
    prompt = checkpoint.prompt(["".join(index[item]) for item in history])
    codebooks = [
        checkpoint.tokenizer.convert_tokens_to_ids([f"<{letter}_{n}>" for n in range(size)])
        for letter, size in zip("abc", SIZES, strict=True)
    ]
    expected = {
        item_id: level_score(checkpoint, prompt, path, codebooks) for item_id, path in index.items()
    }
    ranking = sorted(expected, key=lambda item_id: -expected[item_id])[:8]
    async with running(bundle) as stack:
        for speculation in ("off", "on"):
            # As many beams as items: beam search leaves nothing out.
            answer = await ask(stack.client, history, 8, speculation, beam_width=len(index))
            compare(answer, ranking, [expected[item_id] for item_id in ranking])


async def test_titles_are_served_as_whole_sequences_score(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = random_titles()
    (tmp_path / "titles.json").write_text(json.dumps(titles))
    bundle = pack(
        checkpoint,
        tmp_path / "titles.bundle",
        *("--titles", str(tmp_path / "titles.json"), "--title-format", "<{title}>"),
        *("--window", "10"),
    )
    assert "Warning" not in capsys.readouterr().err
    assert bundle.trie.has_padding
    shown = {item_id: f"<{title}>" for item_id, title in titles.items()}
    history = list(titles)[3:6]
    prompt = [shown[item_id] for item_id in history]
    expected = {item_id: score(checkpoint, prompt, text) for item_id, text in shown.items()}
    ranking = sorted(expected, key=lambda item_id: -expected[item_id])
    async with running(bundle) as stack:
        for speculation in ("off", "on"):
            # As many beams as titles: beam search leaves nothing out.
            answer = await ask(stack.client, history, 10, speculation, beam_width=len(titles))
            compare(answer, ranking[:10], [expected[item_id] for item_id in ranking[:10]])
            fewer = await ask(stack.client, history, 5, speculation)
            assert {item.item_id for item in fewer.items} <= set(titles)


async def ask(
    client: Any, history: list[str], num_items: int, speculation: str, beam_width: int = 0
) -> Recommendation:
    answer: Recommendation = await client.recommend(
        events=[Interaction(item_id) for item_id in history],
        num_items=num_items,
        beam_width=beam_width or num_items,
        speculation=speculation,
        exclude_history=False,
        debug=True,
    )
    assert answer.degraded == ()
    return answer


def compare(answer: Recommendation, item_ids: list[str], scores: list[float]) -> None:
    gaps = np.diff([item.score for item in answer.items])
    assert len(gaps) == 0 or np.abs(gaps).min() > NEAR_TIE, "a near tie would make order moot"
    assert [item.item_id for item in answer.items] == item_ids
    # transformers keeps running scores in fp32 whatever the model's dtype.
    np.testing.assert_allclose([i.score for i in answer.items], scores, rtol=0, atol=2e-5)


def random_index() -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    chosen = np.unique(rng.integers(0, SIZES, size=(300, 3)), axis=0)
    rng.shuffle(chosen)
    return {
        f"i{n}": [f"<{letter}_{code}>" for letter, code in zip("abc", row, strict=True)]
        for n, row in enumerate(chosen.tolist())
    }


def random_titles() -> dict[str, str]:
    colours, things, endings = TITLE_WORDS
    names = [f"the {a} {b}{c}" for a in colours for b in things for c in endings]
    return {f"t{n}": name for n, name in enumerate(names)}


@torch.inference_mode()
def generate(
    checkpoint: Checkpoint, prompt: list[int], index: dict[str, list[str]], num_beams: int
) -> tuple[list[tuple[str, ...]], list[float]]:
    """Constrained beam search by transformers; paths as token names, and their scores."""
    allowed: dict[tuple[int, ...], set[int]] = {}
    for names in index.values():
        path = checkpoint.tokenizer.convert_tokens_to_ids(names)
        for level, token in enumerate(path):
            allowed.setdefault(tuple(path[:level]), set()).add(token)
    depth = len(next(iter(index.values())))
    tokens = torch.tensor([prompt])
    out = checkpoint.model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=depth,
        min_new_tokens=depth,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        eos_token_id=None,
        pad_token_id=0,
        prefix_allowed_tokens_fn=lambda _, ids: sorted(allowed[tuple(ids[len(prompt) :].tolist())]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    paths = out.sequences[:, len(prompt) :].tolist()
    if num_beams == 1:  # greedy search keeps no scores
        scores = [sum(whole_logprobs(checkpoint, prompt, paths[0]))]
    else:
        scores = out.sequences_scores.tolist()
    return [tuple(checkpoint.tokenizer.convert_ids_to_tokens(path)) for path in paths], scores


def score(checkpoint: Checkpoint, history: list[str], text: str) -> float:
    """Log-probability of a text and the end of sequence behind the prompt of a history."""
    prompt = checkpoint.prompt(history)
    whole = checkpoint.prompt(history, text)
    assert whole[: len(prompt)] == prompt
    path = [*whole[len(prompt) :], checkpoint.tokenizer.eos_token_id]
    return sum(whole_logprobs(checkpoint, prompt, path))


@torch.inference_mode()
def level_score(
    checkpoint: Checkpoint, prompt: list[int], names: list[str], codebooks: list[list[int]]
) -> float:
    """Log-probability of a path, each token among the codes of its level."""
    path = checkpoint.tokenizer.convert_tokens_to_ids(names)
    logits = checkpoint.model(torch.tensor([[*prompt, *path]]), use_cache=False).logits[0]
    rows = logits[len(prompt) - 1 : -1]
    return sum(
        float(row[token] - torch.logsumexp(row[codes], 0))
        for row, token, codes in zip(rows, path, codebooks, strict=True)
    )


@torch.inference_mode()
def whole_logprobs(checkpoint: Checkpoint, prompt: list[int], path: list[int]) -> list[float]:
    """Log-probability of each token of a path, from one forward without a cache."""
    logits = checkpoint.model(torch.tensor([[*prompt, *path]]), use_cache=False).logits[0]
    logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return logprobs[torch.arange(len(path)), torch.tensor(path)].tolist()
