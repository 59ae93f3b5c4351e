"""Small random bundles for tests: a real directory with a target, a drafter and a trie.

`tiny_bundle()` builds one per process and shape and removes it at exit. The weights are random,
so the answers mean nothing; they are exact, deterministic and quick.
"""

import atexit
import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from specbeam.bundle import Bundle, BundleParts, LevelTokens, PromptTemplate, Window, write_bundle
from specbeam.catalog import ItemTrie

FIRST_CODE = 3  # 0 = padding, 1 = BOS, 2 = EOS
_TORCH_DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


@functools.cache
def tiny_bundle(
    *,
    name: str = "tiny",
    num_items: int = 300,
    codes: int = 12,
    item_length: int = 4,
    dtype: str = "fp64",
    seed: int = 0,
    drafter: bool = True,
    prompt_seed: int = 1,
) -> Bundle:
    """Return a bundle built once per process; see `build_bundle`."""
    directory = tempfile.TemporaryDirectory(prefix="specbeam-test-")
    atexit.register(directory.cleanup)
    return build_bundle(
        Path(directory.name) / name,
        name=name,
        num_items=num_items,
        codes=codes,
        item_length=item_length,
        dtype=dtype,
        seed=seed,
        drafter=drafter,
        prompt_seed=prompt_seed,
    )


def build_bundle(
    directory: Path,
    *,
    name: str = "tiny",
    num_items: int = 300,
    codes: int = 12,
    item_length: int = 4,
    dtype: str = "fp64",
    seed: int = 0,
    drafter: bool = True,
    prompt_seed: int = 1,
) -> Bundle:
    """Write a bundle with random weights to `directory`.

    Args:
        directory: where; must not exist.
        name: bundle name.
        num_items: items; about one in ten shares its token path with another one.
        codes: codes per level.
        item_length: tokens per item, L.
        dtype: type of the stored weights, fp32 or fp64.
        seed: of the catalogue and the weights.
        drafter: whether there is a drafter "default".
        prompt_seed: token that opens each prompt; another one is another prompt fingerprint.
    """
    rng = np.random.default_rng(seed)
    offsets = FIRST_CODE + codes * np.arange(item_length)
    paths = offsets + rng.integers(codes, size=(num_items, item_length))
    copies = rng.choice(num_items, size=num_items // 10, replace=False)
    paths[copies] = paths[rng.integers(num_items, size=len(copies))]
    ids = [f"item-{number:04d}" for number in range(num_items)]
    popularity = rng.integers(0, 50, size=num_items)
    trie = ItemTrie.build(paths, ids, popularity)
    with tempfile.TemporaryDirectory(prefix="specbeam-test-") as scratch:
        work = Path(scratch)
        vocab_size = FIRST_CODE + codes * item_length
        _save_llama(work / "target", vocab_size, hidden=32, layers=2, dtype=dtype, seed=seed)
        if drafter:
            _save_llama(work / "draft", vocab_size, hidden=16, layers=1, dtype=dtype, seed=seed + 1)
        _save_items(work / "catalog.parquet", ids, paths, popularity)
        parts = BundleParts(
            name=name,
            trie=trie,
            template=PromptTemplate.of_codes((prompt_seed,), window=Window(50, 10)),
            levels=tuple(
                LevelTokens("abcdefgh"[d], ((int(o), codes),)) for d, o in enumerate(offsets)
            ),
            vocab_size=vocab_size,
            target_dir=work / "target",
            drafters={"default": work / "draft"} if drafter else {},
            items_file=work / "catalog.parquet",
            default_beam_width=10,
        )
        return write_bundle(directory, parts)


def _save_llama(
    directory: Path, vocab_size: int, *, hidden: int, layers: int, dtype: str, seed: int
) -> None:
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        # Wide enough that the distributions are far from uniform.
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(_TORCH_DTYPES[dtype])
    model.save_pretrained(directory)


def _save_items(path: Path, ids: list[str], paths: np.ndarray, popularity: np.ndarray) -> None:
    table = pa.table(
        {
            "item_id": pa.array(ids, pa.string()),
            "tokens": pa.array(paths.tolist(), pa.list_(pa.int32())),
            "title": pa.array([f"Title of {item}" for item in ids], pa.string()),
            "topics": pa.array([["topic"] for _ in ids], pa.list_(pa.string())),
            "popularity": pa.array(popularity.tolist(), pa.int32()),
            "created_at": pa.array([None for _ in ids], pa.int64()),
        }
    )
    pq.write_table(table, path)


@contextmanager
def exact_norms() -> Iterator[None]:
    """Compute RMS norms in the type of their input; transformers computes them in fp32.

    Only with this are fp64 models exact to fp64.
    """

    def forward(self: LlamaRMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))

    with mock.patch.object(LlamaRMSNorm, "forward", forward):
        yield


def random_prompt(bundle: Bundle, seed: int, num_items: int = 6) -> np.ndarray:
    """Return the prompt of a random history, int32."""
    items = np.random.default_rng(seed).integers(bundle.trie.num_items, size=num_items)
    return bundle.template.render(bundle.trie.paths(items))
