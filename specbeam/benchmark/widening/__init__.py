"""A small trained target at the compute cost of a large one.

Every logit of the widened model, and so every beam and every acceptance, is the small model's;
time, memory and KV bytes are those of the large shape.  Dims of the large model are *live* (they
carry the small one), *free* (nothing live reads them) or *gates* (what keeps free ones from live
ones).

Valid for latency, throughput and memory of "<large shape>, function of <small model>, widened"; the
recall and the acceptance measured beside it are the small model's.  Not valid for methods that look
inside the target, such as leaving layers out.

Source: function-preserving growth as in Net2Net and LEMON (from memory); the construction is ours.
"""

from specbeam.benchmark.widening.fit import Fit, WideningError, fit_shape
from specbeam.benchmark.widening.plan import WideningPlan

__all__ = ["Fit", "WideningError", "WideningPlan", "fit_shape"]
