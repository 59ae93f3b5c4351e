"""Filters through the running services, against items chosen one by one in the test."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from specbeam.client import Interaction, InvalidRequestError
from specbeam.client_types import RecommendOptions
from tests.bundles import FIRST_TIME_S, ItemFacts, exact_norms, item_facts, tiny_bundle
from tests.stack import Oracle, Stack, running

HOUR_MS = 3_600_000
START_MS = 1000 * FIRST_TIME_S
LATE_MS = START_MS + 700 * HOUR_MS
HISTORY = [f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35)]
BUNDLES = {
    "VOCAB": {"facts": True},
    "LEVEL": {"facts": True, "score_kind": "LEVEL"},
    "TRIE": {"facts": True, "score_kind": "TRIE"},
    "VOCAB, texts": {"facts": True, "texts": True},
    "LEVEL, texts": {"facts": True, "score_kind": "LEVEL", "texts": True},
    "TRIE, texts": {"facts": True, "score_kind": "TRIE", "texts": True},
}

Rule = Callable[[ItemFacts], bool]


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module", params=BUNDLES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Stack, Oracle]]:
    bundle = tiny_bundle(**BUNDLES[request.param])  # type: ignore[arg-type]
    async with running(bundle) as stack:
        events = [Interaction(item, event_id=item) for item in HISTORY]
        await stack.client.record_interactions("ann", events)
        yield stack, Oracle(bundle)


@pytest.fixture(params=["off", "on"])
def speculation(request: pytest.FixtureRequest) -> Any:
    return request.param


def tagged(*clauses: str) -> Rule:
    return lambda item: all(set(clause.split("|")) & item.tags for clause in clauses)


def made_after(moment_ms: int) -> Rule:
    bound = -(-moment_ms // HOUR_MS) * HOUR_MS
    return lambda item: item.created_at_ms is not None and item.created_at_ms >= bound


def one_of(item_ids: list[str]) -> Rule:
    return lambda item: item.item_id in item_ids


def both(*rules: Rule) -> Rule:
    return lambda item: all(rule(item) for rule in rules)


LISTED = [f"item-{number:04d}" for number in range(0, 300, 7)]
CASES: dict[str, tuple[RecommendOptions, Rule]] = {
    "one tag": ({"required_tags": ["half"]}, tagged("half")),
    "tags and tags": ({"required_tags": ["half", "third"]}, tagged("half", "third")),
    "tags or tags": ({"required_tags": [["one", "quarter"]]}, tagged("one|quarter")),
    "cnf": (
        {"required_tags": [["nine", "third"], "half", ["quarter", "nine"]]},
        tagged("nine|third", "half", "quarter|nine"),
    ),
    "fresh": ({"created_after": LATE_MS + 1}, made_after(LATE_MS + 1)),
    "known age": ({"created_after": 0}, made_after(0)),
    "too fresh": ({"created_after": START_MS + 2000 * HOUR_MS}, lambda item: False),
    "allow list": ({"allow_item_ids": [*LISTED, "nowhere", *LISTED]}, one_of(LISTED)),
    "one allowed": ({"allow_item_ids": LISTED[5:6]}, one_of(LISTED[5:6])),
    "nine allowed": ({"allow_item_ids": LISTED[5:14]}, one_of(LISTED[5:14])),
    "none of them known": ({"allow_item_ids": ["nowhere", "neither"]}, lambda item: False),
    "one tagged": ({"required_tags": ["one"]}, tagged("one")),
    "nine tagged": ({"required_tags": ["nine"]}, tagged("nine")),
    "all rare tags": ({"required_tags": ["one", "two", "nine"]}, tagged("one", "two", "nine")),
    "tags and age": (
        {"required_tags": ["half"], "created_after": START_MS + 300 * HOUR_MS},
        both(tagged("half"), made_after(START_MS + 300 * HOUR_MS)),
    ),
    "allow list and tags": (
        {"allow_item_ids": LISTED, "required_tags": ["third"]},
        both(one_of(LISTED), tagged("third")),
    ),
    "allow list and age": (
        {"allow_item_ids": LISTED, "created_after": START_MS + 500 * HOUR_MS},
        both(one_of(LISTED), made_after(START_MS + 500 * HOUR_MS)),
    ),
    "allowed and excluded": (
        {"allow_item_ids": LISTED, "exclude_item_ids": LISTED[::2]},
        one_of(LISTED[1::2]),
    ),
    "tags and excluded": (
        {"required_tags": ["quarter"], "exclude_item_ids": LISTED},
        both(tagged("quarter"), lambda item: item.item_id not in LISTED),
    ),
    "everything": (
        {
            "allow_item_ids": [*LISTED, *HISTORY],
            "exclude_item_ids": LISTED[:6],
            "required_tags": [["half", "third"]],
            "created_after": START_MS + 100 * HOUR_MS,
        },
        both(
            one_of([*LISTED[6:], *HISTORY]),
            tagged("half|third"),
            made_after(START_MS + 100 * HOUR_MS),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_only_what_passes_is_searched(
    served: tuple[Stack, Oracle], speculation: Any, case: str
) -> None:
    stack, oracle = served
    options, rule = CASES[case]
    answer = await stack.client.recommend(
        "ann", num_items=10, exclude_history=False, speculation=speculation, **options
    )
    oracle.check(answer, oracle.rank(HISTORY, 10, allowed=rule))
    by_id = {item.item_id: item for item in item_facts(stack.bundle)}
    assert all(rule(by_id[item.item_id]) for item in answer.items)
    assert answer.degraded == ()


@pytest.mark.parametrize("case", ["cnf", "fresh", "allow list", "everything"])
async def test_what_was_seen_is_left_out_as_well(
    served: tuple[Stack, Oracle], speculation: Any, case: str
) -> None:
    stack, oracle = served
    options, rule = CASES[case]
    answer = await stack.client.recommend(
        "ann", num_items=7, exclude_history=True, speculation=speculation, **options
    )
    oracle.check(answer, oracle.rank(HISTORY, 7, allowed=rule, excluded=HISTORY))


@pytest.mark.parametrize("left", [0, 1, 9, 10])
async def test_as_few_items_as_are_left(
    served: tuple[Stack, Oracle], speculation: Any, left: int
) -> None:
    stack, oracle = served
    seen = [item for item in HISTORY if item not in LISTED]
    allowed = [*seen, *LISTED[:left]]
    answer = await stack.client.recommend(
        "ann", num_items=10, allow_item_ids=allowed, exclude_history=True, speculation=speculation
    )
    expected = oracle.rank(HISTORY, 10, allowed=one_of(allowed), excluded=HISTORY)
    oracle.check(answer, expected)
    assert len(answer.items) == len(set(LISTED[:left]) - set(HISTORY))
    assert answer.exhausted == (len(answer.items) < 10)


async def test_without_a_filter_nothing_is_missing(
    served: tuple[Stack, Oracle], speculation: Any
) -> None:
    stack, oracle = served
    for num_items in (1, 10, 60):
        answer = await stack.client.recommend(
            "ann", num_items=num_items, exclude_history=False, speculation=speculation
        )
        oracle.check(answer, oracle.rank(HISTORY, num_items))
        assert (answer.work.drafted_nodes > 0) == (speculation == "on")


async def test_tags_and_age_are_announced(served: tuple[Stack, Oracle]) -> None:
    stack, _ = served
    (bundle,) = (await stack.client.get_info()).bundles
    facts = item_facts(stack.bundle)
    names = sorted({name for item in facts for name in item.tags})
    assert [(tag.name, tag.num_items) for tag in bundle.tags] == [
        (name, sum(name in item.tags for item in facts)) for name in names
    ]
    assert bundle.freshness_bucket_ms == HOUR_MS
    assert bundle.score_kind == stack.bundle.manifest.score_kind.lower()


@pytest.fixture(scope="module")
async def plain() -> AsyncIterator[Stack]:
    async with running(tiny_bundle()) as stack:
        yield stack


async def test_a_catalogue_without_facts_has_no_tags_and_no_ages(plain: Stack) -> None:
    (bundle,) = (await plain.client.get_info()).bundles
    assert (bundle.tags, bundle.freshness_bucket_ms) == ((), 0)
    assert (await plain.client.recommend("", created_after=0)).items == ()


async def test_unknown_tags_are_named(plain: Stack) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await plain.client.recommend("", required_tags=["half", ["a", "b"]], max_rows=3)
    assert {(v.field, v.description) for v in caught.value.violations} == {
        ("max_rows", "a pass needs a row for each of the 10 beams"),
        ("filter.required_tags[0].any_of[0]", "the catalogue has no tag 'half'"),
        ("filter.required_tags[1].any_of[0]", "the catalogue has no tag 'a'"),
        ("filter.required_tags[1].any_of[1]", "the catalogue has no tag 'b'"),
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"required_tags": [[]]}, "filter.required_tags[0].any_of"),
        ({"required_tags": ["a", ["t"] * 65]}, "filter.required_tags[1].any_of"),
        ({"required_tags": ["t"] * 65}, "filter.required_tags"),
        ({"allow_item_ids": ["i"] * 10_001}, "filter.allow_item_ids"),
        ({"exclude_item_ids": ["i"] * 10_001}, "filter.exclude_item_ids"),
        ({"allow_item_ids": ["i", ""]}, "filter.allow_item_ids[1]"),
        ({"created_after": -1}, "filter.created_after_ms"),
        ({"created_after": 253_402_300_800_000}, "filter.created_after_ms"),
        ({"created_after": 2**63 - 1}, "filter.created_after_ms"),
    ],
)
async def test_broken_rules_are_named(plain: Stack, options: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await plain.client.recommend("", **options)
    assert [violation.field for violation in caught.value.violations] == [field]


async def test_as_much_as_is_allowed_is_answered(plain: Stack) -> None:
    items = [f"item-{number:04d}" for number in range(300)]
    answer = await plain.client.recommend(
        "", allow_item_ids=(items * 34)[:10_000], exclude_item_ids=(items[5:] * 34)[:10_000]
    )
    assert {item.item_id for item in answer.items} <= set(items[:5])
    assert answer.exhausted
    assert (await plain.client.recommend("", created_after=253_402_300_799_999)).items == ()
