"""The tree pool: verified trees of past requests, kept as draft candidates for later ones.

A tree is an opaque blob. It can never change an answer, only save time: losing one is harmless,
keeping one of a deleted user is not.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

MICROSECONDS: Final = 1_000_000
# A longer item id is replaced by its digest in a key.
MAX_PLAIN_ID_BYTES: Final = 64
_SEPARATOR: Final = "\x1f"
_DIGESTED: Final = "#"

ClockMs = Callable[[], int]
"""Returns milliseconds since 1970-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class PoolScope:
    """Whose trees fit each other.

    Attributes:
        tenant: Owner of the users.
        fingerprint: Digest over the fingerprints of model, prompt and catalogue.
    """

    tenant: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much a pool keeps.

    Attributes:
        trees_per_key: Newest trees kept under one key.
        max_keys: Keys kept per scope, the users' own ones included.
        max_age_s: Age at which a tree is no longer read, seconds.
        max_tree_bytes: Largest tree taken.
        tombstone_s: Seconds for which a deletion refuses writes that began before it. A write
            that takes longer than half of that is refused, deletion or not.

    Raises:
        ValueError: A limit is not positive.
    """

    trees_per_key: int = 8
    max_keys: int = 20_000
    max_age_s: float = 7 * 86_400.0
    max_tree_bytes: int = 8192
    tombstone_s: float = 60.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, not positive")

    @property
    def max_age_us(self) -> int:
        """`max_age_s` in microseconds."""
        return int(self.max_age_s * MICROSECONDS)

    @property
    def tombstone_ms(self) -> int:
        """`tombstone_s` in milliseconds."""
        return max(1, int(self.tombstone_s * 1000))


@dataclass(frozen=True, slots=True)
class PooledTree:
    """A tree as it is read.

    Attributes:
        data: The blob.
        written_ms: When it was written, milliseconds since 1970-01-01 UTC.
        own: Whether the asking user wrote it.
    """

    data: bytes
    written_ms: int
    own: bool


@dataclass(frozen=True, slots=True)
class PoolWrite:
    """A tree to be written.

    Attributes:
        scope: Where.
        user_id: Whose; empty for nobody's.
        keys: Under which keys others find it, see `pool_keys`.
        data: The blob.
        started_ms: When the request behind it began, milliseconds since 1970-01-01 UTC.
    """

    scope: PoolScope
    user_id: str
    keys: tuple[str, ...]
    data: bytes
    started_ms: int


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a scope holds that can still be read.

    Attributes:
        keys: Keys with a tree.
        trees: Stored trees; one request's tree counts under each of its keys.
        bytes: Size of the blobs.
    """

    keys: int
    trees: int
    bytes: int


class TreePoolStore(Protocol):
    """Keeps trees by key, one per key and owner.

    A write of the same owner under the same key replaces the older one. The newest
    `trees_per_key` stay under a key; the least recently written keys beyond `max_keys` go.

    Every method raises `StoreUnavailable` when the store is out of reach, full or broken.
    """

    async def read_trees(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], limit: int
    ) -> tuple[PooledTree, ...]:
        """Return at most `limit` trees, one per owner.

        The user's own comes first, then those under each key in the order given, newest first.
        An empty `user_id` has none of its own.
        """

    async def add(
        self, scope: PoolScope, user_id: str, keys: Sequence[str], data: bytes, started_ms: int
    ) -> bool:
        """Write a tree as the user's own and under each key.

        Returns:
            Whether it was stored. It is not when it is too large, nobody could find it again,
            the user was deleted since `started_ms`, or that is too long ago to know.
        """

    async def delete_user(self, tenant: str, user_id: str) -> bool:
        """Remove every tree of the user in every scope; return whether there was one.

        Writes that began before are refused from now on. What keeps that in mind, a digest and
        a time, is gone after `tombstone_s`.
        """

    async def statistics(self, scope: PoolScope) -> PoolStatistics:
        """Count what a scope holds; takes time in proportion to it."""


@runtime_checkable
class BatchingTreePool(Protocol):
    """A tree pool that takes several writes at once for less than one by one."""

    async def add_many(self, writes: Sequence[PoolWrite]) -> tuple[bool, ...]:
        """Do as `add` for each write, in the order given."""


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A tree as a store keeps it.

    Attributes:
        owner: Digest of its owner.
        written_us: When it was written, microseconds; no two trees of a scope share it.
        data: The blob.
    """

    owner: str
    written_us: int
    data: bytes


def wall_clock_ms() -> int:
    """Return the time of this machine, milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def pool_keys(item_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of a history, most specific first: its last two items, its last one.

    Args:
        item_ids: Items, oldest first.
    """
    last = [_key_part(item_id) for item_id in item_ids[-2:]]
    return tuple("i:" + _SEPARATOR.join(last[start:]) for start in range(len(last)))


def _key_part(item_id: str) -> str:
    # Redis scripts compute this, too, and SHA-1 is the digest they have. What looks like the
    # result of joining or digesting is digested, so that no two histories share a key.
    encoded = item_id.encode()
    ambiguous = item_id.startswith(_DIGESTED) or _SEPARATOR in item_id
    if len(encoded) <= MAX_PLAIN_ID_BYTES and not ambiguous:
        return item_id
    return _DIGESTED + hashlib.sha1(encoded, usedforsecurity=False).hexdigest()


def owner_name(tenant: str, user_id: str) -> str:
    """Return the name under which a pool knows a user: a digest keyed by the tenant.

    Whoever can guess a user id can compute it: it hides ids from readers of a dump, not from a
    search over known ids.
    """
    key = hashlib.blake2b(tenant.encode(), digest_size=32).digest()
    return hashlib.blake2b(user_id.encode(), digest_size=16, key=key).hexdigest()


def owner_of_write(write: PoolWrite) -> str:
    """Return the owner of a write; nobody's tree has a random one, so that it replaces none."""
    if write.user_id:
        return owner_name(write.scope.tenant, write.user_id)
    return secrets.token_hex(16)


def own_key(owner: str) -> str:
    """Return the key of a user's own newest tree."""
    return f"own:{owner}"


def keys_of_write(write: PoolWrite, owner: str) -> tuple[str, ...]:
    """Return every key of a write once, the owner's own last: it is to be evicted last."""
    own = [own_key(owner)] if write.user_id else []
    return tuple(dict.fromkeys([*write.keys, *own]))


def keys_to_read(owner: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Return the keys to look at, in order of preference; `owner` is empty for nobody."""
    return tuple(dict.fromkeys([*([own_key(owner)] if owner else []), *keys]))


def is_acceptable(write: PoolWrite, limits: PoolLimits, now_ms: int) -> bool:
    """Return whether a write may be tried, as far as can be told without the store.

    A tombstone must outlive the writes that it is to stop. A write may sit in a socket for
    as long again as it took to get here, hence the half.
    """
    too_late = now_ms - write.started_ms > limits.tombstone_ms // 2
    can_be_found = bool(write.user_id or write.keys)
    return can_be_found and len(write.data) <= limits.max_tree_bytes and not too_late


def choose_trees(
    found: Iterable[Sequence[StoredTree]], owner: str, limit: int, oldest_us: int
) -> tuple[PooledTree, ...]:
    """Return what a reader gets: one tree per owner, its own first.

    Args:
        found: The trees under each key, keys in order of preference.
        owner: Digest of the reader; empty for nobody.
        limit: Most trees to return.
        oldest_us: Trees written before this have aged out.
    """
    chosen: dict[str, StoredTree] = {}
    for trees in found:
        for tree in sorted(trees, key=lambda tree: (-tree.written_us, tree.owner)):
            if tree.written_us >= oldest_us:
                chosen.setdefault(tree.owner, tree)
    own = [chosen.pop(owner)] if owner in chosen else []
    ordered = [*own, *chosen.values()][: max(0, limit)]
    return tuple(
        PooledTree(tree.data, tree.written_us // 1000, own=tree.owner == owner) for tree in ordered
    )
