"""The tokenizer of a checkpoint, as far as packing needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbeam.bundle.checkpoint import tokenizer_files
from specbeam.packing.errors import PackError

# Encoded with and without special tokens to see what the tokenizer adds by itself.
_PROBE = "a"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A loaded tokenizer.

    Attributes:
        directory: where its files lie.
        ids: vocabulary id of every token, added ones included.
        bos: id of the token that begins a sequence, if there is one.
        eos: id of the token that ends a sequence, if there is one.
        adds_bos: whether the tokenizer puts BOS before a text by itself.
    """

    directory: Path
    ids: dict[str, int]
    bos: int | None
    eos: int | None
    adds_bos: bool
    _tokenizer: Any

    @classmethod
    def load(cls, directory: Path) -> Vocabulary:
        """Load a tokenizer from disk.

        Raises:
            PackError: there is none, or it cannot be loaded.
        """
        if not tokenizer_files(directory):
            missing = "there is no tokenizer (tokenizer.json): say where with --tokenizer"
            raise PackError(str(directory), [missing])
        from transformers import AutoTokenizer
        from transformers.utils.logging import set_verbosity_error

        set_verbosity_error()
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PackError(str(directory), [f"the tokenizer cannot be loaded: {first}"]) from error
        bos, plain = tokenizer.bos_token_id, tokenizer.encode(_PROBE, add_special_tokens=False)
        adds_bos = bos is not None and tokenizer.encode(_PROBE)[:1] == [bos] != plain[:1]
        return cls(
            directory, dict(tokenizer.get_vocab()), bos, tokenizer.eos_token_id, adds_bos, tokenizer
        )

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.ids.values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added at its ends."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, nothing added at their ends."""
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def encode_behind(self, context: str, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text where it stands behind another one.

        Many tokenizers mark the beginning of a string; a text that is generated has none.  Where
        the context's last token would melt with the text, the text is read alone.
        """
        alone = self.encode_all(texts)
        if not context:
            return alone
        opening = self.encode(context)
        whole = self.encode_all([context + text for text in texts])
        size = len(opening)
        return [
            ids[size:] if ids[:size] == opening else other
            for ids, other in zip(whole, alone, strict=True)
        ]

    def text_of(self, ids: Sequence[int]) -> str:
        """Return a text for some ids, as the tokenizer decodes them."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
