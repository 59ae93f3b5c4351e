"""What to pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from specbeam.bundle import Window
from specbeam.packing.metadata import Fields

MAX_TITLE_TOKENS = 63


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """How prompts look.

    Attributes:
        text: a text with one {history}; None = BOS and the codes.
        separator: text between two items.
        bos: whether prompts begin with BOS; None = as the tokenizer does, always without a text.
        window: which part of a history is shown.
        keep_end_tokens: whether items of the history are shown with their end tokens.
    """

    text: str | None = None
    separator: str = ""
    bos: bool | None = None
    window: Window = field(default_factory=Window)
    keep_end_tokens: bool = False


@dataclass(frozen=True, slots=True)
class PackRequest:
    """A checkpoint and what belongs to it.

    Attributes:
        bundle_dir: bundle to write.
        target_dir: Hugging Face checkpoint; it is only read.
        index_file: item id to code tokens or vocabulary ids; this or `titles_file`.
        titles_file: item id to title.
        items_file: metadata of the items, or None.
        tokenizer_dir: tokenizer; None = the checkpoint's own, if it has one.
        drafters: checkpoint directories by drafter name.
        adapter_dir: LoRA adapter of the target, or None.
        name: bundle name; None = the directory's name.
        prompt: how prompts look.
        fields: which fields of the files hold what.
        id_offset: added to the item ids of all files.
        end_tokens: tokens or vocabulary ids that end an item, in turn; empty = none for an index,
            the tokenizer's end of sequence for titles.
        title_format: how the model writes a title.
        max_title_tokens: longer titles are cut.
        score_kind: VOCAB, LEVEL or TRIE.
        beam_width: beams kept when a request does not say.
        exclude_history: default of the request's filter.
        overwrite: replace an existing bundle.
    """

    bundle_dir: Path
    target_dir: Path
    index_file: Path | None = None
    titles_file: Path | None = None
    items_file: Path | None = None
    tokenizer_dir: Path | None = None
    drafters: Mapping[str, Path] = field(default_factory=dict)
    adapter_dir: Path | None = None
    name: str | None = None
    prompt: PromptRequest = field(default_factory=PromptRequest)
    fields: Fields = field(default_factory=Fields)
    id_offset: int = 0
    end_tokens: tuple[str, ...] = ()
    title_format: str = "{title}"
    max_title_tokens: int = MAX_TITLE_TOKENS
    score_kind: str = "VOCAB"
    beam_width: int = 20
    exclude_history: bool = True
    overwrite: bool = False
