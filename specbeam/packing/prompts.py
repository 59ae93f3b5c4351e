"""Prompt templates with frozen ids, from a text or for codes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from specbeam.bundle import BundleError, FixedSegment, HistorySegment, PromptTemplate
from specbeam.catalog import pad_paths
from specbeam.packing.vocabulary import Vocabulary

PLACE = "{history}"
_SHOWN_IDS = 60
_TRIED_PLACES = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """An item as a prompt shows it.

    Attributes:
        text: what it spells.
        path: vocabulary ids.
    """

    text: str
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as people write it.

    Attributes:
        before: text before the history.
        after: text behind it.
        separator: text between two items.
    """

    before: str
    after: str
    separator: str = ""

    @classmethod
    def parse(cls, text: str, separator: str = "") -> PromptText:
        """Split a text at its one {history}; one line end at the end of the text is dropped.

        Raises:
            BundleError: it has none, or several.
        """
        body = text.removesuffix("\n").removesuffix("\r")
        if body.count(PLACE) != 1:
            raise BundleError([f"the prompt needs exactly one {PLACE}, it has {body.count(PLACE)}"])
        before, _, after = body.partition(PLACE)
        return cls(before, after, separator)

    def render(self, items: Sequence[str]) -> str:
        """Return the text of a history."""
        return self.before + self.separator.join(items) + self.after


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Ids of the parts of a prompt text."""

    before: tuple[int, ...]
    separator: tuple[int, ...]
    after: tuple[int, ...]


def codes_template(
    bos: int | None, separator: Sequence[int], history: HistorySegment
) -> PromptTemplate:
    """Return BOS and the codes of the history.

    Raises:
        BundleError: there is no BOS, so the prompt of a new user would be empty.
    """
    if bos is None:
        raise BundleError(
            ["a prompt of codes alone begins with BOS; the checkpoint names none: give a --prompt"]
        )
    return PromptTemplate((FixedSegment((bos,)),), replace(history, separator=tuple(separator)))


def text_template(
    text: PromptText,
    vocabulary: Vocabulary,
    samples: Sequence[Sample],
    bos: int | None,
    history: HistorySegment,
) -> tuple[PromptTemplate, list[str]]:
    """Tokenise a prompt text once and freeze the ids.

    The parts are tokenised where they stand, between items, and each by itself: many tokenizers
    read a text at the beginning of a string otherwise than in its middle.  Then whole texts of
    sample histories are tokenised, each followed by an item as in training; the reading that they
    contradict least is taken.

    Args:
        text: the prompt.
        vocabulary: the tokenizer.
        samples: some items as a prompt shows them.
        bos: put before the text, or None.
        history: window and end token.

    Returns:
        The template, and a warning if a sample text still has other ids than the template gives it.

    Raises:
        BundleError: nothing is left beside the history.
    """
    best: tuple[PromptTemplate, list[str]] | None = None
    for parts in (*_in_context(text, vocabulary, samples), _alone(text, vocabulary)):
        template = _frozen(text, parts, bos, history)
        found = _differences(template, text, vocabulary, samples)
        if best is None or len(found) < len(best[1]):
            best = template, found
    assert best is not None
    template, found = best
    tried = len(list(_histories(samples)))
    return template, [
        f"{len(found)} of {tried} sample prompts are read in another way: {difference}"
        for difference in found[:1]
    ]


def _frozen(
    text: PromptText, parts: Tokenised, bos: int | None, history: HistorySegment
) -> PromptTemplate:
    opening = () if bos is None or parts.before[:1] == (bos,) else (FixedSegment((bos,)),)
    before = (FixedSegment(parts.before, text.before),) if text.before else ()
    after = (FixedSegment(parts.after, text.after),) if text.after else ()
    shown = replace(history, separator=parts.separator, separator_text=text.separator or None)
    try:
        return PromptTemplate((*opening, *before), shown, after)
    except ValueError as error:
        raise BundleError([str(error)]) from error


def _differences(
    template: PromptTemplate, text: PromptText, vocabulary: Vocabulary, samples: Sequence[Sample]
) -> list[str]:
    """Compare rendered ids with the tokenizer's reading of whole texts."""
    opening = template.before[:1]
    bos = opening[0].ids if opening and opening[0].text is None else ()
    found = []
    for shown, answer in _histories(samples):
        rendered = text.render([item.text for item in shown]) + answer.text
        read = [*bos, *vocabulary.encode(rendered)]
        sent = template.render(pad_paths([item.path for item in shown])).tolist()
        if read != [*sent, *answer.path]:
            found.append(_difference(rendered, read, [*sent, *answer.path]))
    return found


def _histories(samples: Sequence[Sample]) -> Iterator[tuple[Sequence[Sample], Sample]]:
    for first, second in pairwise([*samples, samples[0]]):
        yield [first], second
        yield [second, first], second
    yield samples, samples[0]


def _difference(text: str, read: list[int], sent: list[int]) -> str:
    place = next((n for n, (a, b) in enumerate(zip(read, sent, strict=False)) if a != b), 0)
    return (
        f"from id {place} on, the text {text!r} is {_short(read)} to the tokenizer and "
        f"{_short(sent)} in the bundle"
    )


def _short(ids: list[int]) -> str:
    if len(ids) <= _SHOWN_IDS:
        return str(ids)
    return f"[{', '.join(map(str, ids[:_SHOWN_IDS]))}, ... {len(ids)} in all]"


def _in_context(
    text: PromptText, vocabulary: Vocabulary, samples: Sequence[Sample]
) -> Iterator[Tokenised]:
    """Yield the ids around two items of one text; the items may occur in the fixed text too."""
    first, second = samples[0].path, samples[-1].path
    ids = tuple(vocabulary.encode(text.render([samples[0].text, samples[-1].text])))
    for start in _places(ids, first):
        rest = ids[start + len(first) :]
        for gap in _places(rest, second):
            yield Tokenised(ids[:start], rest[:gap], rest[gap + len(second) :])


def _places(ids: tuple[int, ...], path: tuple[int, ...]) -> list[int]:
    last = len(ids) - len(path)
    return [n for n in range(last + 1) if ids[n : n + len(path)] == path][:_TRIED_PLACES]


def _alone(text: PromptText, vocabulary: Vocabulary) -> Tokenised:
    before, separator, after = vocabulary.encode_all([text.before, text.separator, text.after])
    return Tokenised(tuple(before), tuple(separator), tuple(after))
