"""Small random bundles for tests: a real directory with a target, a drafter and a trie.

`tiny_bundle()` builds one per process and shape and removes it at exit. The weights are random,
so the answers mean nothing; they are exact, deterministic and quick.
"""

import atexit
import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from specbeam.bundle import Bundle, BundleParts, LevelTokens, PromptTemplate, Window, write_bundle
from specbeam.catalog import PAD, ItemTrie, pad_paths

FIRST_TIME_S = 1_700_000_000  # of the items with facts
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
    facts: bool = False,
    score_kind: str = "VOCAB",
    texts: bool = False,
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
        facts=facts,
        score_kind=score_kind,
        texts=texts,
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
    facts: bool = False,
    score_kind: str = "VOCAB",
    texts: bool = False,
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
        facts: whether items have tags and, most of them, creation times; see `item_facts`.
        score_kind: score convention.
        texts: whether items differ in length, 2 .. L with their end token, and there are no levels.
    """
    rng = np.random.default_rng(seed)
    offsets = FIRST_CODE + codes * np.arange(item_length)
    paths = offsets + rng.integers(codes, size=(num_items, item_length))
    copies = rng.choice(num_items, size=num_items // 10, replace=False)
    paths[copies] = paths[rng.integers(num_items, size=len(copies))]
    popularity = rng.integers(0, 50, size=num_items)
    if texts:
        paths = _cut_to_lengths(paths, rng)
    items = _Items(
        ids=[f"item-{number:04d}" for number in range(num_items)],
        paths=paths,
        popularity=popularity,
        tags=_random_tags(num_items, rng) if facts else [["topic"]] * num_items,
        created_at_s=_random_times(num_items, rng) if facts else [None] * num_items,
    )
    levels = tuple(LevelTokens("abcdefgh"[d], ((int(o), codes),)) for d, o in enumerate(offsets))
    with tempfile.TemporaryDirectory(prefix="specbeam-test-") as scratch:
        work = Path(scratch)
        vocab_size = FIRST_CODE + codes * item_length
        _save_llama(work / "target", vocab_size, hidden=32, layers=2, dtype=dtype, seed=seed)
        if drafter:
            _save_llama(work / "draft", vocab_size, hidden=16, layers=1, dtype=dtype, seed=seed + 1)
        items.save(work / "catalog.parquet")
        parts = BundleParts(
            name=name,
            trie=items.trie(with_facts=facts),
            template=PromptTemplate.of_codes((prompt_seed,), window=Window(50, 10)),
            levels=() if texts else levels,
            vocab_size=vocab_size,
            target_dir=work / "target",
            drafters={"default": work / "draft"} if drafter else {},
            items_file=work / "catalog.parquet",
            default_beam_width=10,
            score_kind=score_kind,
        )
        return write_bundle(directory, parts)


@dataclass(frozen=True)
class _Items:
    """A catalogue by row, before it is a trie."""

    ids: list[str]
    paths: np.ndarray
    popularity: np.ndarray
    tags: list[list[str]]
    created_at_s: list[int | None]

    def trie(self, *, with_facts: bool) -> ItemTrie:
        if not with_facts:
            return ItemTrie.build(self.paths, self.ids, self.popularity)
        names = sorted({name for tags in self.tags for name in tags})
        rows = {name: [n for n, tags in enumerate(self.tags) if name in tags] for name in names}
        times = [-1 if time is None else 1000 * time for time in self.created_at_s]
        return ItemTrie.build(
            self.paths, self.ids, self.popularity, tags=rows, created_at_ms=np.array(times)
        )

    def save(self, path: Path) -> None:
        tokens = [[token for token in row if token != PAD] for row in self.paths.tolist()]
        table = pa.table(
            {
                "item_id": pa.array(self.ids, pa.string()),
                "tokens": pa.array(tokens, pa.list_(pa.int32())),
                "title": pa.array([f"Title of {item}" for item in self.ids], pa.string()),
                "topics": pa.array(self.tags, pa.list_(pa.string())),
                "popularity": pa.array(self.popularity.tolist(), pa.int32()),
                "created_at": pa.array(self.created_at_s, pa.int64()),
            }
        )
        pq.write_table(table, path)


def _cut_to_lengths(paths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shorten each path to 1 .. L - 1 tokens of any level and end it with EOS."""
    depth = paths.shape[1]
    lengths = rng.integers(1, depth, size=len(paths))
    return pad_paths([row[:n] for row, n in zip(paths.tolist(), lengths, strict=True)], ending=[2])


def _random_tags(num_items: int, rng: np.random.Generator) -> list[list[str]]:
    """Tags on half, a third and a quarter of the items, and on 1, 2 and 9 of them."""
    tags: list[list[str]] = [[] for _ in range(num_items)]
    for name, count in (
        ("half", num_items // 2),
        ("third", num_items // 3),
        ("quarter", num_items // 4),
        ("one", 1),
        ("two", 2),
        ("nine", 9),
    ):
        for row in rng.choice(num_items, size=count, replace=False):
            tags[row].append(name)
    return tags


def _random_times(num_items: int, rng: np.random.Generator) -> list[int | None]:
    """Seconds within 1000 hours; one in five is unknown."""
    times = rng.integers(3_600_000, size=num_items).tolist()
    return [None if rng.random() < 0.2 else FIRST_TIME_S + time for time in times]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What catalog.parquet says about an item."""

    item_id: str
    tokens: tuple[int, ...]
    tags: frozenset[str]
    popularity: int
    created_at_ms: int | None


def item_facts(bundle: Bundle) -> list[ItemFacts]:
    """Return every item as the parquet file has it; nothing of it comes from the trie."""
    rows = pq.read_table(bundle.items_file).to_pylist()
    return [
        ItemFacts(
            row["item_id"],
            tuple(row["tokens"]),
            frozenset(row["topics"]),
            row["popularity"],
            None if row["created_at"] is None else 1000 * row["created_at"],
        )
        for row in rows
    ]


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
