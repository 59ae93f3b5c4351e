"""The rules by which a search's next beams are chosen: pure functions of scores and given noise.

A rule is one file with one function, and one line here.
"""

from specbeam.decoding.rules.choice import Chosen, Continuations, Drafted, Noise, Rule, best
from specbeam.decoding.rules.gumbel import gumbel
from specbeam.decoding.rules.relaxed import relaxed
from specbeam.decoding.rules.top_k import top_k

RULES = {
    "TOP_K": Rule(top_k),
    "GUMBEL": Rule(gumbel, gumbels="walk"),
    "RELAXED": Rule(relaxed, gumbels="draw", acceptance="accept", keeping="keep"),
}

__all__ = ["RULES", "Chosen", "Continuations", "Drafted", "Noise", "Rule", "best"]
