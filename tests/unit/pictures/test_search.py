"""What pictures make of the details of an answer."""

from dataclasses import replace

import pytest

from specbeam.pictures.search import headline, provenance, search_of, sources_of
from tests import pictures


def test_kinds_and_coverage_of_a_miss() -> None:
    search = search_of(pictures.unlucky())
    assert search.item_length == 4 and [level.number for level in search.levels] == [1, 2, 3]
    kinds = [{p.tokens: p.kind for p in level.prefixes} for level in search.levels]
    assert kinds == [
        {(0,): "own", (1,): "own"},
        {(0, 5): "accepted", (1, 6): "missed", (0, 7): "rejected"},
        {(0, 5, 8): "own", (1, 6, 9): "own", (0, 5, 2): "unreached"},
    ]
    second, third = search.levels[1:]
    assert (second.num_covered, second.num_exact, second.round, second.step) == (1, 2, 1, "tree")
    assert (third.num_covered, third.round, third.step) == (2, 2, "run")
    # Drafted a round before the level was settled: that stays known.
    assert third.prefixes[0].draft_score == -3.0 and third.prefixes[0].target_score == -2.0


def test_exact_beams_come_first_the_best_on_top() -> None:
    for made in (pictures.lucky(), pictures.unlucky(), pictures.large(30, 90)):
        for level in search_of(made).levels:
            exact = [prefix.exact for prefix in level.prefixes]
            assert exact == sorted(exact, reverse=True)
            scores = [prefix.score for prefix in level.prefixes if prefix.exact]
            assert scores == sorted(scores, reverse=True)


def test_headlines() -> None:
    lucky, unlucky = pictures.lucky(), pictures.unlucky()
    assert headline(lucky, search_of(lucky)).startswith("One tree settled every level: 2 passes")
    told = headline(unlucky, search_of(unlucky))
    assert "1 of 2 exact beams on level 2" in told and "3 passes" in told
    assert unlucky.debug is not None
    plain = pictures.answer([pictures.prompt_round()], [pictures.item(0, (0, 1))])
    assert headline(plain, search_of(plain)).startswith("Nothing was drafted")


def test_who_drafted_and_who_brought_an_item() -> None:
    unlucky = pictures.unlucky()
    search = search_of(unlucky)
    assert sources_of(search) == [("model", 3, 2), ("cooccurrence", 1, 0)]
    assert [provenance(item, search) for item in unlucky.items] == [
        ("own", "model", "own"),
        ("own", "missed", "own"),
    ]


def test_nodes_that_were_not_sent_are_counted() -> None:
    made = pictures.lucky()
    assert search_of(made).left_out == 0
    cut = replace(made, work=replace(made.work, drafted_nodes=103))
    assert search_of(cut).left_out == 100


def test_answer_without_details_is_refused() -> None:
    with pytest.raises(ValueError, match="no details"):
        search_of(replace(pictures.lucky(), debug=None))
