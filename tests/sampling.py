"""Searches that draw items, whole, in one process."""

from __future__ import annotations

from contextlib import closing

from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sampled import draw_tree
from specbeam.engine import SearchModel, SearchSpec, Turn


def relaxed_search(
    target: SearchModel,
    draft: SearchModel,
    spec: SearchSpec,
    draft_width: int,
    max_rows: int = 256,
    one_pass: bool = False,
) -> list[Turn]:
    """Relaxed sampling with a model drafter; every turn of it.

    Args:
        target: the target, under TRIE.
        draft: the draft model, under TRIE.
        spec: what is searched for, with a RELAXED selection.
        draft_width: N, nodes drawn per level.
        max_rows: row budget of a pass.
        one_pass: draw the first tree below the root, to go with the prompt.
    """
    trie = target.expansion.trie
    with closing(spec.session(target)) as session, closing(spec.drafting(draft)) as drafting:
        drafting.open(spec.prompt)

        def drawn():
            beams = session.beams
            question = DraftQuestion(trie, beams, spec.beam_width, leaf_filter=spec.leaf_filter)
            levels = trie.depth
            scorer = drafting.children_of
            return draw_tree(question, scorer, draft_width, levels, spec.selection)

        first = drawn() if one_pass else None
        turns = [session.open(spec.prompt, tree=first, max_rows=max_rows)]
        while not session.finished:
            turns.append(session.advance(drawn(), max_rows))
        return turns
