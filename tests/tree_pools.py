"""A clock and a slow obvious tree pool, for tests of the stores."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from specbeam.storage import PooledTree, PoolLimits, PoolScope, PoolStatistics


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


@dataclass
class Entry:
    order: int
    owner: object
    written_ms: int
    data: bytes


@dataclass
class SlowPool:
    """What a `TreePoolStore` does, said with lists; owners are user ids or fresh objects."""

    limits: PoolLimits
    clock: Clock
    keys: dict[PoolScope, dict[object, list[Entry]]] = field(default_factory=dict)
    last_write: dict[tuple[PoolScope, object], int] = field(default_factory=dict)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)
    order: int = 0

    def add(
        self, scope: PoolScope, user: str, keys: Sequence[str], data: bytes, started_ms: int
    ) -> bool:
        names: list[object] = list(dict.fromkeys(keys))
        if user:
            names.append(("own", user))
        if not names or len(data) > self.limits.max_tree_bytes:
            return False
        if self.clock.now_ms - started_ms > self.limits.tombstone_s * 500:
            return False
        if user and self.deleted.get((scope.tenant, user), -1) >= started_ms:
            return False
        owner = user or object()
        mine = self.keys.setdefault(scope, {})
        for name in names:
            self.order += 1
            self.last_write[scope, name] = self.order
            others = [entry for entry in self._fresh(mine.get(name, [])) if entry.owner != owner]
            entries = [Entry(self.order, owner, self.clock.now_ms, data), *others]
            mine[name] = entries[: self.limits.trees_per_key]
        self._evict(scope)
        return True

    def read(
        self, scope: PoolScope, user: str, keys: Sequence[str], limit: int
    ) -> tuple[PooledTree, ...]:
        found: list[Entry] = []
        for name in [("own", user), *keys]:
            for entry in self._fresh(self.keys.get(scope, {}).get(name, [])):
                if entry.owner not in [other.owner for other in found]:
                    found.append(entry)
        found = [e for e in found if e.owner == user] + [e for e in found if e.owner != user]
        return tuple(PooledTree(e.data, e.written_ms, e.owner == user) for e in found[:limit])

    def delete_user(self, tenant: str, user: str) -> None:
        for scope, mine in self.keys.items():
            if scope.tenant == tenant:
                for name in list(mine):
                    mine[name] = [entry for entry in mine[name] if entry.owner != user]
                    if not mine[name]:
                        del mine[name]
        self.deleted[tenant, user] = self.clock.now_ms

    def statistics(self, scope: PoolScope) -> PoolStatistics:
        held = [self._fresh(entries) for entries in self.keys.get(scope, {}).values()]
        sizes = [len(entry.data) for entries in held for entry in entries]
        return PoolStatistics(sum(map(bool, held)), len(sizes), sum(sizes))

    def _fresh(self, entries: list[Entry]) -> list[Entry]:
        oldest_ms = self.clock.now_ms - self.limits.max_age_s * 1000
        return [entry for entry in entries if entry.written_ms >= oldest_ms]

    def _evict(self, scope: PoolScope) -> None:
        mine = self.keys[scope]
        for name in list(mine):
            if not self._fresh(mine[name]):
                del mine[name]
        by_age = sorted(mine, key=lambda name: self.last_write[scope, name], reverse=True)
        for name in by_age[self.limits.max_keys :]:
            del mine[name]
