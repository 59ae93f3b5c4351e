"""The catalogue of a request: items with their paths, metadata and trie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specbeam.bundle import BundleError
from specbeam.bundle.checkpoint import Checkpoint
from specbeam.catalog import CatalogError, ItemTrie, pad_paths
from specbeam.packing.errors import PackError
from specbeam.packing.metadata import Metadata, no_metadata, read_metadata
from specbeam.packing.paths import (
    TOKENS_FIELD,
    ItemPaths,
    common_end,
    find_end_token,
    index_paths,
    length_problems,
    title_paths,
    without_end,
)
from specbeam.packing.prompts import PromptText
from specbeam.packing.request import PackRequest
from specbeam.packing.tables import read_rows, shift_ids
from specbeam.packing.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items with all that is known about them.

    Attributes:
        items: ids and paths without end tokens.
        metadata: of the same items.
        ending: the tokens that end an item, if there are some.
        trie: the catalogue to serve.
    """

    items: ItemPaths
    metadata: Metadata
    ending: tuple[int, ...]
    trie: ItemTrie

    @property
    def whole_paths(self) -> list[tuple[int, ...]]:
        """Vocabulary ids of each item, end tokens included."""
        return [(*path, *self.ending) for path in self.items.paths]


def read_catalogue(
    request: PackRequest, checkpoint: Checkpoint, vocabulary: Vocabulary | None
) -> Catalogue:
    """Read and check the items of a request.

    Raises:
        BundleError: naming every problem of the file that is wrong.
    """
    file = request.index_file or request.titles_file
    assert file is not None
    problems: list[str] = []
    items = _read_paths(request, vocabulary, file, problems)
    ending = _ending(request, checkpoint, vocabulary, items)
    items = without_end(items, ending)
    problems += length_problems(items, ending)
    problems += _beyond(items, ending, checkpoint)
    if problems:
        raise PackError(str(file), problems)
    metadata = _read_items(request, items)
    try:
        trie = ItemTrie.build(
            pad_paths(items.paths, ending),
            items.item_ids,
            metadata.popularity,
            tags=metadata.tag_rows(),
            created_at_ms=metadata.created_at_ms(),
        )
    except CatalogError as error:
        raise PackError(str(file), error.problems) from error
    return Catalogue(items, metadata, ending, trie)


def _read_paths(
    request: PackRequest, vocabulary: Vocabulary | None, file: Path, problems: list[str]
) -> ItemPaths:
    fields, by_title = request.fields, request.titles_file is not None
    value_field = fields.title if by_title else TOKENS_FIELD
    rows = read_rows(file, fields.item_id, value_field, problems)
    rows = shift_ids(rows, request.id_offset, problems)
    if not by_title:
        return index_paths(rows, vocabulary, problems)
    if vocabulary is None:
        raise BundleError(["titles need a tokenizer: say where with --tokenizer"])
    return title_paths(
        rows,
        vocabulary,
        problems,
        field=fields.title,
        pattern=request.title_format,
        max_tokens=request.max_title_tokens,
        context=PromptText.parse(request.prompt.text).after if request.prompt.text else "",
    )


def _ending(
    request: PackRequest, checkpoint: Checkpoint, vocabulary: Vocabulary | None, items: ItemPaths
) -> tuple[int, ...]:
    if request.end_tokens:
        return tuple(find_end_token(text, vocabulary) for text in request.end_tokens)
    if request.titles_file is None:
        return common_end(items)
    found = vocabulary.eos if vocabulary else None
    found = checkpoint.token_id("eos_token_id") if found is None else found
    if found is None:
        raise BundleError(["the tokenizer names no end of sequence: titles need --end-token"])
    return (found,)


def _read_items(request: PackRequest, items: ItemPaths) -> Metadata:
    fields = request.fields
    file = request.items_file or request.titles_file
    if file is None:
        return no_metadata(items.item_ids)
    problems: list[str] = []
    rows = read_rows(file, fields.item_id, fields.title, problems)
    rows = shift_ids(rows, request.id_offset, problems)
    metadata = read_metadata(items.item_ids, rows, fields, problems)
    if problems:
        raise PackError(str(file), problems)
    return metadata


def _beyond(items: ItemPaths, ending: Sequence[int], checkpoint: Checkpoint) -> list[str]:
    """Name tokens that the checkpoint has no embedding for."""
    size = checkpoint.vocab_size
    problems = [
        f"item {item_id!r} has token {max(path)}, the checkpoint's vocabulary ends at {size - 1}: "
        "were its embeddings resized before it was saved?"
        for item_id, path in zip(items.item_ids, items.paths, strict=True)
        if max(path, default=-1) >= size
    ]
    problems += [
        f"the end token is {token}, the vocabulary ends at {size - 1}"
        for token in ending
        if token >= size
    ]
    return problems
