"""Token paths of items: from an index of code tokens, or from titles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specbeam.bundle import BundleError
from specbeam.catalog import MAX_DEPTH
from specbeam.packing.tables import Row
from specbeam.packing.vocabulary import Vocabulary

TOKENS_FIELD = "tokens"
_SHOWN_PIECES = 8


@dataclass(frozen=True, slots=True)
class ItemPaths:
    """What the language model writes for each item.

    Attributes:
        item_ids: N ids.
        paths: vocabulary ids of each item, without end tokens.
        texts: what the paths spell in a prompt; None where items came as vocabulary ids.
        cut: items whose text was longer than allowed and was cut.
    """

    item_ids: tuple[str, ...]
    paths: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] | None
    cut: int = 0


def index_paths(
    rows: Mapping[str, Row], vocabulary: Vocabulary | None, problems: list[str]
) -> ItemPaths:
    """Resolve an index of token names or vocabulary ids.

    Args:
        rows: item id to a row whose `tokens` are names such as "<a_60>", or vocabulary ids.
        vocabulary: resolves names; not needed for ids.
        problems: receives items without tokens, and tokens that are not one of the vocabulary.

    Returns:
        The items; unknown tokens are -1.
    """
    entries = {key: _tokens(key, row.get(TOKENS_FIELD), problems) for key, row in rows.items()}
    names = _first_uses(entries)
    if names and vocabulary is None:
        problems.append("token names need a tokenizer: say where with --tokenizer")
    ids = vocabulary.ids if vocabulary else {}
    if vocabulary:
        problems += [
            _not_one_token(name, items, vocabulary)
            for name, items in names.items()
            if name not in ids
        ]
    paths = tuple(
        tuple(ids.get(token, -1) if isinstance(token, str) else token for token in tokens)
        for tokens in entries.values()
    )
    texts = tuple("".join(map(str, tokens)) for tokens in entries.values())
    return ItemPaths(tuple(entries), paths, texts if names else None)


def title_paths(
    rows: Mapping[str, Row],
    vocabulary: Vocabulary,
    problems: list[str],
    *,
    field: str,
    pattern: str,
    max_tokens: int,
    context: str = "",
) -> ItemPaths:
    """Tokenise titles.

    Args:
        rows: item id to a row with a title.
        vocabulary: the tokenizer.
        problems: receives items without a title.
        field: the title's field.
        pattern: how the model writes a title, with one "{title}".
        max_tokens: longer ones are cut.
        context: text behind which the model writes a title.
    """
    if pattern.count("{title}") != 1:
        problems.append(f"--title-format needs exactly one {{title}}, got {pattern!r}")
    if not 1 <= max_tokens < MAX_DEPTH:
        problems.append(f"--max-title-tokens must be 1 .. {MAX_DEPTH - 1}, got {max_tokens}")
    titles = {key: row.get(field) for key, row in rows.items()}
    for key, title in titles.items():
        if not isinstance(title, str) or not title.strip():
            problems.append(f"item {key!r} has no title in field {field!r}, got {title!r}")
    texts = [pattern.replace("{title}", str(title).strip()) for title in titles.values()]
    encoded = vocabulary.encode_behind(context, texts)
    problems += [
        f"the title of item {key!r} has no tokens"
        for (key, title), ids in zip(titles.items(), encoded, strict=True)
        if not ids and str(title).strip()
    ]
    shown = [
        text if len(ids) <= max_tokens else vocabulary.text_of(ids[:max_tokens])
        for text, ids in zip(texts, encoded, strict=True)
    ]
    return ItemPaths(
        tuple(titles),
        tuple(tuple(ids[:max_tokens]) for ids in encoded),
        tuple(shown),
        cut=sum(len(ids) > max_tokens for ids in encoded),
    )


def common_end(items: ItemPaths) -> tuple[int, ...]:
    """Return the token that ends every item and stands nowhere else, if lengths differ.

    An index that was written from whole paths has its end tokens in it.
    """
    ends = {path[-1:] for path in items.paths}
    if len(ends) != 1 or len({len(path) for path in items.paths}) == 1:
        return ()
    end = next(iter(ends))
    known = len(end) == 1 and end[0] >= 0
    alone = known and not any(end[0] in path[:-1] for path in items.paths)
    return end if alone else ()


def without_end(items: ItemPaths, ending: tuple[int, ...]) -> ItemPaths:
    """Return the items without the end tokens, if every one of them has them at its end."""
    size = len(ending)
    ended = all(len(path) > size and path[-size:] == ending for path in items.paths)
    if not ending or not ended:
        return items
    return replace(items, paths=tuple(path[:-size] for path in items.paths), texts=None)


def length_problems(items: ItemPaths, ending: tuple[int, ...]) -> list[str]:
    """Return why an item could not be told from the beginning of another one.

    Items of different lengths without an end token, the first end token inside an item, long items.
    """
    problems: list[str] = []
    lengths = Counter(len(path) for path in items.paths if path)
    if not lengths:
        return problems
    if len(lengths) > 1 and not ending:
        counted = ", ".join(f"{count:,} of {size}" for size, count in sorted(lengths.items()))
        problems.append(
            f"items have different numbers of tokens ({counted}): they need --end-token"
        )
    longest = max(lengths) + len(ending)
    if longest > MAX_DEPTH:
        problems.append(f"the longest item has {longest} tokens, {MAX_DEPTH} are supported")
    if ending:
        problems += [
            f"item {item_id!r} contains the end token {ending[0]}"
            for item_id, path in zip(items.item_ids, items.paths, strict=True)
            if ending[0] in path
        ]
    return problems


def find_end_token(text: str, vocabulary: Vocabulary | None) -> int:
    """Return the id of an end token.

    Args:
        text: a vocabulary id in digits, or the token itself.
        vocabulary: resolves tokens.

    Raises:
        BundleError: it is not one token.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    if vocabulary is None:
        raise BundleError([f"--end-token {text!r} needs a tokenizer: say where with --tokenizer"])
    if text in vocabulary.ids:
        return vocabulary.ids[text]
    ids = vocabulary.encode(text)
    if len(ids) != 1:
        raise BundleError([f"--end-token {text!r} is {len(ids)} tokens: {ids}"])
    return ids[0]


def _tokens(item_id: str, value: Any, problems: list[str]) -> tuple[str | int, ...]:
    """Return the tokens of one item, all names or all ids."""
    if not isinstance(value, list) or not value:
        problems.append(f"item {item_id!r}: expected a list of tokens, got {value!r}")
        return ()
    kinds = {type(token) for token in value}
    if kinds not in ({str}, {int}) or any(isinstance(t, int) and t < 0 for t in value):
        problems.append(f"item {item_id!r}: {value!r} are not all names or all vocabulary ids")
        return ()
    return tuple(value)


def _first_uses(entries: Mapping[str, Sequence[str | int]]) -> dict[str, list[str]]:
    """Return the items of each token name."""
    uses: dict[str, list[str]] = {}
    for item_id, tokens in entries.items():
        for token in tokens:
            if isinstance(token, str):
                uses.setdefault(token, []).append(item_id)
    return uses


def _not_one_token(name: str, items: Sequence[str], vocabulary: Vocabulary) -> str:
    pieces = vocabulary.encode(name)
    shown = " ".join(map(str, pieces[:_SHOWN_PIECES])) + (" ..." * (len(pieces) > _SHOWN_PIECES))
    where = f"item {items[0]!r}" + (f" and {len(items) - 1:,} more" if len(items) > 1 else "")
    return (
        f"token {name!r} ({where}) is not in the tokenizer's vocabulary: "
        f"it becomes {len(pieces)} tokens ({shown})"
    )
