"""What the GPU benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuBenchSpec:
    """What is measured, for every shape alike.

    Attributes:
        device: torch device name.
        dtype: of all models.
        widths: values of K (= W).
        prompt_tokens: prompt lengths of the searches.
        rows: tree rows of a pass in the cost table.
        prefix_tokens: prompt tokens in place before them.
        requests: measured requests per cell.
        warm_ups: requests before them that are not counted.
        a0_requests: of these, how many transformers' generate answers too; it is slow.
        repeats: measured passes per shape of the cost table.
        rows_per_beam: row budget of a verification pass, in multiples of K; see `budget`.
        checks: prompts whose fp32 logits and beams are compared with the small target's; 0 = none.
        seed: of workload, order and bootstrap.
    """

    device: str = "cuda"
    dtype: str = "bf16"
    widths: tuple[int, ...] = (5, 10, 20, 50, 256)
    prompt_tokens: tuple[int, ...] = (30, 200, 400)
    rows: tuple[int, ...] = (1, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    prefix_tokens: tuple[int, ...] = (30, 200, 400)
    requests: int = 30
    warm_ups: int = 3
    a0_requests: int = 5
    repeats: int = 20
    rows_per_beam: int = 12
    checks: int = 4
    seed: int = 0

    def budget(self, width: int) -> int:
        """Return the row budget of a pass at K = `width`: a multiple of 64 in 128 .. 1024."""
        wanted = -(-self.rows_per_beam * width // 64) * 64
        return max(width, min(1024, max(128, wanted)))

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt there may be."""
        return max(*self.prompt_tokens, *self.prefix_tokens)


TOY = GpuBenchSpec(
    device="cpu",
    dtype="fp32",
    widths=(2, 5),
    prompt_tokens=(9, 17),
    rows=(1, 5, 12),
    prefix_tokens=(9, 17),
    requests=3,
    warm_ups=1,
    a0_requests=1,
    repeats=3,
    checks=2,
)
