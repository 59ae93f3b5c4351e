"""Prompt texts with frozen ids: equal to what the tokenizer reads, or a warning."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.bundle import BundleError, HistorySegment
from specbeam.catalog import pad_paths
from specbeam.packing.prompts import PromptText, Sample, codes_template, text_template
from specbeam.packing.vocabulary import Vocabulary

PROMPTS = [
    "Below is the history.\nItems: {history}\nNext:",
    "{history} Next: ",
    "Items:{history}",
    "Items such as <a_0><b_0> and <a_7><b_7>: {history}",
    "the {x} {} of {history}{y}",
]


def code_samples(vocabulary: Vocabulary, size: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    pairs = [(0, 0), *rng.integers(8, size=(size, 2)).tolist(), (7, 7)]
    names = [(f"<a_{first}>", f"<b_{second}>") for first, second in pairs]
    return [Sample("".join(n), tuple(vocabulary.ids[token] for token in n)) for n in names]


@pytest.mark.parametrize("separator", ["", ", ", " ; ", "\n"])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_ids_equal_those_of_the_whole_text(
    family: str, prompt: str, separator: str, request: pytest.FixtureRequest
) -> None:
    vocabulary: Vocabulary = request.getfixturevalue(family)
    samples = code_samples(vocabulary, 3)
    text = PromptText.parse(prompt, separator)
    bos = vocabulary.bos if vocabulary.adds_bos else None
    template, warnings = text_template(text, vocabulary, samples, bos, HistorySegment())
    assert warnings == []
    shown = code_samples(vocabulary, 9)
    rendered = prompt.replace("{history}", separator.join(item.text for item in shown))
    expected = vocabulary.encode(rendered)
    ids = template.render(pad_paths([item.path for item in shown])).tolist()
    assert ids == ([] if bos is None else [bos]) + expected


def test_a_tokenizer_is_asked_whether_it_adds_bos(qwen: Vocabulary, llama: Vocabulary) -> None:
    assert (qwen.bos, qwen.adds_bos) == (None, False)
    assert (llama.bos, llama.adds_bos) == (1, True)


def test_bos_in_the_text_is_not_doubled(llama: Vocabulary) -> None:
    samples = code_samples(llama, 2)
    text = PromptText.parse("<s>Items: {history}")
    template, warnings = text_template(text, llama, samples, llama.bos, HistorySegment())
    assert (template.prefix.count(1), warnings) == (1, [])


def test_titles_that_melt_into_the_text_give_a_warning_with_both_lists(qwen: Vocabulary) -> None:
    titles = ["the red kettle", "the blue lamp"]
    samples = [Sample(title, tuple(qwen.encode(title))) for title in titles]
    spaced = PromptText.parse("Items: {history} Next: ", ", ")
    _, warnings = text_template(spaced, qwen, samples, None, HistorySegment())
    (warning,) = warnings
    assert "sample prompts are read in another way" in warning
    assert str(qwen.encode("Items: the red kettle Next: the blue lamp")) in warning
    # The same with the space in the title, where such tokenizers put it.
    samples = [Sample(f" {title}", tuple(qwen.encode(f" {title}"))) for title in titles]
    joined = PromptText.parse("Items:{history}\nNext:", ",")
    template, warnings = text_template(joined, qwen, samples, None, HistorySegment())
    assert warnings == []
    assert list(template.suffix) == qwen.encode("\nNext:")


def test_one_item_is_sample_enough(llama: Vocabulary) -> None:
    samples = code_samples(llama, 0)[:1]
    text = PromptText.parse("Items: {history}\nNext:", ", ")
    _, warnings = text_template(text, llama, samples, llama.bos, HistorySegment())
    assert warnings == []


@pytest.mark.parametrize("prompt", ["no place", "{history} and {history}", ""])
def test_a_prompt_has_exactly_one_place(prompt: str) -> None:
    with pytest.raises(BundleError, match="exactly one"):
        PromptText.parse(prompt)


def test_only_the_last_line_end_is_dropped() -> None:
    assert PromptText.parse("a{history}b\n\n").after == "b\n"
    assert PromptText.parse("a{history}b\r\n").after == "b"


def test_prompts_are_never_empty(qwen: Vocabulary) -> None:
    with pytest.raises(BundleError, match="at least one token"):
        text_template(
            PromptText.parse("{history}"), qwen, code_samples(qwen, 2), None, HistorySegment()
        )
    with pytest.raises(BundleError, match="begins with BOS"):
        codes_template(None, (), HistorySegment())
    assert codes_template(1, (5,), HistorySegment()).history.separator == (5,)
