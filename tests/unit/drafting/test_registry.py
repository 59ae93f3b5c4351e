from pathlib import Path

import pytest

from specbeam.drafting import registry, sources
from tests.bundles import tiny_bundle

MINE = '''
class MineDrafter:
    """Knows nothing."""

    name = "mine"
    informed = False

    @classmethod
    def load(cls, bundle):
        return cls()

    def scorer(self, question):
        return None


class NeedyDrafter(MineDrafter):
    name = "needy"

    @classmethod
    def load(cls, bundle):
        return None
'''


def test_a_new_drafter_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_a_test.py").write_text(MINE)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    registry.local_drafters.cache_clear()
    try:
        assert {"mine", "needy", "pool"} <= set(registry.drafter_names())
        loaded = registry.load_drafters(tiny_bundle(), ["model", "mine", "needy"])
        assert list(loaded) == ["mine"]
    finally:
        monkeypatch.undo()
        registry.local_drafters.cache_clear()
    assert "mine" not in registry.drafter_names()


def test_two_drafters_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "second_pool_for_a_test.py").write_text(MINE.replace('"mine"', '"pool"'))
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    registry.local_drafters.cache_clear()
    try:
        with pytest.raises(ValueError, match="'pool'"):
            registry.local_drafters()
    finally:
        monkeypatch.undo()
        registry.local_drafters.cache_clear()


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there are model, head, .*pool"):
        registry.load_drafters(tiny_bundle(), ["model", "modle"])
