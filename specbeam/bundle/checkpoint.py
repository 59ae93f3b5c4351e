"""Hugging Face checkpoint directories, read without loading a weight."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specbeam.bundle.manifest import BundleError

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
_SINGLE = "model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header.

    Attributes:
        shape: sizes.
        dtype: as safetensors names it, such as "BF16".
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint directory says about itself.

    Attributes:
        directory: where it lies.
        config: its config.json.
        tensors: the stored tensors by name.
    """

    directory: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, as configured."""
        return int(self.config["vocab_size"])

    @property
    def model_type(self) -> str:
        """Model family, such as "qwen2"."""
        return str(self.config.get("model_type", "unknown"))

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model was made for, if it says so."""
        value = self.config.get("max_position_embeddings")
        return None if value is None else int(value)

    @property
    def sliding_window(self) -> int | None:
        """Positions that attention looks back on, where a layer does not see everything."""
        window = self.config.get("sliding_window")
        layers = self.config.get("layer_types") or []
        slides = "sliding_attention" in layers or (not layers and self.model_type == "mistral")
        return int(window) if window is not None and slides else None

    @property
    def num_parameters(self) -> int:
        """Stored parameters (tied ones once)."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """Parameters by stored type, most first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.dtype] += tensor.size
        return dict(counts.most_common())

    def token_id(self, name: str) -> int | None:
        """Return a special token's id from config.json, such as "bos_token_id"; None if absent."""
        value = self.config.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        return None if value is None else int(value)

    def problems(self) -> list[str]:
        """Return what does not fit together."""
        found = []
        for name, tensor in sorted(self.tensors.items()):
            if name.endswith("embed_tokens.weight") and tensor.shape[0] != self.vocab_size:
                found.append(
                    f"{self.directory}: {name} has {tensor.shape[0]} rows, config.json says "
                    f"vocab_size {self.vocab_size}"
                )
        return found


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read config.json and the headers of the weight files.

    Raises:
        BundleError: naming every problem.
    """
    config = _read_config(directory)
    files = weight_files(directory)
    problems = [] if files else [_no_weights(directory)]
    problems += [f"{file} is missing" for file in files if not file.is_file()]
    tensors: dict[str, Tensor] = {}
    for file in filter(Path.is_file, files):
        try:
            tensors |= read_header(file)
        except BundleError as error:
            problems += error.problems
    if not isinstance(config.get("vocab_size"), int):
        problems.append(f"{directory / CONFIG} has no vocab_size")
    if problems:
        raise BundleError(problems)
    checkpoint = Checkpoint(directory, config, tensors)
    if problems := checkpoint.problems():
        raise BundleError(problems)
    return checkpoint


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that transformers would load; some may be missing."""
    single, index = directory / _SINGLE, directory / _INDEX
    if single.is_file():
        return [single]
    if index.is_file():
        names = _read_json(index).get("weight_map", {}).values()
        return [directory / name for name in sorted(set(names))]
    files = sorted(directory.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("adapter_")]


def model_files(directory: Path) -> list[Path]:
    """Return the files that make up a model: configuration and weights."""
    weights = weight_files(directory)
    index = () if directory / _SINGLE in weights else (_INDEX,)
    named = [directory / name for name in (CONFIG, "generation_config.json", *index)]
    return [file for file in named if file.is_file()] + weights


def tokenizer_files(directory: Path) -> list[Path]:
    """Return the files of a tokenizer that lies in a checkpoint or in a folder of its own."""
    return [directory / name for name in _TOKENIZER_FILES if (directory / name).is_file()]


def adapter_files(directory: Path) -> list[Path]:
    """Return the files of a LoRA adapter in peft's layout.

    Raises:
        BundleError: it is none.
    """
    config, weights = directory / ADAPTER_CONFIG, directory / "adapter_model.safetensors"
    missing = [file.name for file in (config, weights) if not file.is_file()]
    if missing:
        raise BundleError([f"{directory} is no adapter: {', '.join(missing)} missing"])
    kind = _read_json(config).get("peft_type")
    if kind != "LORA":
        raise BundleError([f"{directory} is an adapter of type {kind}; only LORA is served"])
    return [config, weights]


def read_header(file: Path) -> dict[str, Tensor]:
    """Read the header of a safetensors file.

    Source: the safetensors format: eight bytes of length, a JSON object, the values.

    Raises:
        BundleError: it has none, or the file is shorter than its header says.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        size = file.stat().st_size
        if size != end:
            raise ValueError(f"it has {size} bytes, its header says {end}")
        return {
            name: Tensor(tuple(entry["shape"]), str(entry["dtype"]))
            for name, entry in header.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BundleError([f"{file} is not a whole safetensors file: {error}"]) from error


def _read_config(directory: Path) -> dict[str, Any]:
    config = directory / CONFIG
    if not config.is_file():
        reason = f"{CONFIG} is missing"
        if (directory / ADAPTER_CONFIG).is_file():
            reason = "it is an adapter: pack its base model, with --adapter"
        raise BundleError([f"{directory} is not a checkpoint: {reason}"])
    return _read_json(config)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError([f"{file} cannot be read: {error}"]) from error
    if not isinstance(document, dict):
        raise BundleError([f"{file} holds no object"])
    return document


def _no_weights(directory: Path) -> str:
    if list(directory.glob("*.bin")):
        return (
            f"{directory} has its weights in *.bin files: save it again with "
            "save_pretrained(..., safe_serialization=True)"
        )
    return f"{directory} is not a checkpoint: there is no *.safetensors file"
