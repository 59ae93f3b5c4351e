"""The training loop shared by target and draft."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from specbeam.training.averaging import WeightAverage
from specbeam.training.batches import AnyBatch, BatchSource, Labelled
from specbeam.training.checkpoint import (
    LoopState,
    Trained,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    weights_of,
)
from specbeam.training.devices import Devices
from specbeam.training.errors import TrainingError
from specbeam.training.presets import PhaseConfig
from specbeam.training.progress import Reporter
from specbeam.training.schedule import Plan, learning_rate, load_plan, make_plan, save_plan

CHECKPOINT_EVERY_S = 60.0
REPORT_EVERY_S = 0.5
MAX_GRADIENT_NORM = 1.0
ADAM_BETAS = (0.9, 0.98)
LOSS_DECAY = 0.98
# Several processes ask one another whether to stop or to save only this often, in steps.
AGREE_EVERY = 20
TIMED_STEPS = (2, 8)  # warm-up, measured

TakenBatch = TypeVar("TakenBatch", bound=Labelled, contravariant=True)


class Objective(Protocol[TakenBatch]):
    """What a phase optimises and how it is judged."""

    def loss(self, model: nn.Module, batch: TakenBatch) -> Tensor:
        """Return the scalar loss of a batch, in nats per item.

        Args:
            model: called for the logits; the model, or its wrapper over several processes.
            batch: what is trained on.
        """

    def validate(self) -> Mapping[str, float]:
        """Return validation numbers, the same in every process.

        `score` is to be maximised; it is missing where there is nothing to judge by.
        """


class StopRequested(Exception):
    """The run was asked to stop; a checkpoint has been written."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What a finished phase reports.

    Attributes:
        state: final counters with the validation history.
        plan: how long the phase was meant to train.
        stopped_early: whether validation had stopped improving before the plan's end.
    """

    state: LoopState
    plan: Plan
    stopped_early: bool


@dataclass(frozen=True, slots=True)
class LoopSetup(Generic[AnyBatch]):
    """What a loop works with.

    Attributes:
        name: shown in progress reports.
        config: hyperparameters and limits.
        batches: makes the batches of an epoch.
        work_dir: plan and checkpoint are kept here.
        devices: this process and the others.
        reporter: receives progress.
        should_stop: asked after every step; true leads to a checkpoint and StopRequested.
        checkpoint_every_s: seconds between checkpoints.
        clock: seconds.
    """

    name: str
    config: PhaseConfig
    batches: BatchSource[AnyBatch]
    work_dir: Path
    devices: Devices
    reporter: Reporter
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    clock: Callable[[], float] = time.monotonic


class TrainingLoop(Generic[AnyBatch]):
    """Trains one model to the end of its plan, and can be resumed.

    A run that was killed at any point and resumed gives the weights of one that was not: the plan
    is counted in steps, and a checkpoint holds all that changes.
    """

    def __init__(
        self, setup: LoopSetup[AnyBatch], model: nn.Module, objective: Objective[AnyBatch]
    ) -> None:
        """Create the optimiser, pick up a checkpoint if there is one, make a plan if there is none.

        Args:
            setup: what to work with.
            model: trained in place, on the setup's device; holds the best weights after `run`.
            objective: loss and validation.

        Raises:
            CheckpointError: the checkpoint is damaged or of another model.
        """
        self._setup, self._model, self._objective = setup, model, objective
        self._config, self._devices = setup.config, setup.devices
        self._average = WeightAverage(model, setup.config.average_decay)
        self._trained = Trained(model, make_optimizer(model, setup.config), self._average)
        self._state = LoopState()
        self._best: dict[str, Tensor] | None = None
        self._restore()
        self._plan = self._make_plan()
        self._wrapped = setup.devices.wrap(model)
        self._loss = torch.tensor(self._state.train_loss, device=setup.devices.device)
        self._spent_before_s = self._state.elapsed_s
        self._started = self._saved = self._reported = setup.clock()
        self._first_step = self._state.step

    def run(self) -> PhaseResult:
        """Train to the end of the plan, then load the best weights into the model.

        Raises:
            StopRequested: `should_stop` said so; the checkpoint is up to date.
            TrainingError: the loss is no longer finite.
        """
        while not self._finished():
            self._run_epoch()
        if not self._state.history or self._state.history[-1]["step"] != self._state.step:
            self._validate()
        self._save()
        assert self._best is not None
        load_weights(self._model, self._best)
        stopped_early = self._state.step < self._plan.steps
        return PhaseResult(self._state, self._plan, stopped_early)

    # ---- set-up -------------------------------------------------------------------------------

    @property
    def _checkpoint_dir(self) -> Path:
        return self._setup.work_dir / f"{self._setup.name}.checkpoint"

    def _restore(self) -> None:
        found = load_checkpoint(self._checkpoint_dir, self._trained, self._devices.size)
        if found is None:
            return
        self._state, self._best, random = found
        self._devices.set_random_state(random[self._devices.rank])
        self._setup.reporter.note(f"{self._setup.name}: resumed at step {self._state.step:,}")

    def _make_plan(self) -> Plan:
        """Return the stored plan, or make and store one."""
        path = self._setup.work_dir / f"{self._setup.name}.plan.json"
        plan: Plan | None = None
        if self._devices.is_main:
            plan = load_plan(path)
            if plan is None:
                batches = self._setup.batches.epoch(0)
                seconds = self._time_steps(batches) if self._config.minutes is not None else None
                plan = make_plan(self._config, self._steps_per_epoch(len(batches)), seconds)
                save_plan(path, plan)
        shared = self._devices.broadcast(plan)
        assert isinstance(shared, Plan)
        return shared

    def _time_steps(self, batches: Sequence[AnyBatch]) -> float:
        """Return seconds per step, measured on a copy that is thrown away."""
        model = copy.deepcopy(self._model)
        trained = Trained(model, make_optimizer(model, self._config), WeightAverage(model, 0.5))
        warm, measured = TIMED_STEPS
        random = self._devices.random_state()
        for number in range(warm + measured):
            if number == warm:
                started = self._setup.clock()
            loss = self._objective.loss(model, batches[number % len(batches)])
            optimise(trained, loss, step=number, rate=0.0)
            if number in (warm - 1, warm + measured - 1):
                float(loss.detach())  # waits for the device
        self._devices.set_random_state(random)
        return (self._setup.clock() - started) / measured

    def _steps_per_epoch(self, num_batches: int) -> int:
        return -(-num_batches // self._devices.size)

    # ---- training -----------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        """Train on what is left of the current epoch."""
        state = self._state
        batches = self._setup.batches.epoch(state.epoch)
        steps = self._steps_per_epoch(len(batches))
        while state.batch < steps:
            if self._finished():
                return
            first = state.batch * self._devices.size
            shares = [batches[(first + rank) % len(batches)] for rank in range(self._devices.size)]
            self._step(shares)
            state.batch += 1
            self._after_step(steps)
        state.epoch += 1
        state.batch = 0

    def _step(self, shares: Sequence[AnyBatch]) -> None:
        """Make one optimiser step; this process trains on its own share."""
        state = self._state
        self._model.train()
        loss = self._objective.loss(self._wrapped, shares[self._devices.rank])
        rate = learning_rate(state.step, self._plan, self._config.learning_rate)
        optimise(self._trained, loss, step=state.step + 1, rate=rate)
        detached = loss.detach()
        self._loss = detached if state.step == 0 else torch.lerp(detached, self._loss, LOSS_DECAY)
        state.step += 1
        state.tokens += sum(batch.num_labels for batch in shares)

    def _after_step(self, epoch_steps: int) -> None:
        """Report, validate when due, checkpoint when due, stop when asked."""
        now = self._setup.clock()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            self._report(epoch_steps)
        if self._state.step % self._plan.validate_every == 0:
            self._validate()
        if self._devices.size > 1 and self._state.step % AGREE_EVERY:
            return
        if self._devices.any(self._setup.should_stop()):
            self._save()
            raise StopRequested
        due = self._setup.clock() - self._saved >= self._setup.checkpoint_every_s
        if self._devices.broadcast(due):
            self._save()

    def _finished(self) -> bool:
        patience = self._config.patience
        tired = patience is not None and self._state.since_best >= patience
        return self._state.step >= self._plan.steps or tired

    def _report(self, epoch_steps: int) -> None:
        state, plan = self._state, self._plan
        self._read_loss()
        spent = self._elapsed()
        done = max(state.step - self._first_step, 1)
        left = (plan.steps - state.step) * (spent - self._spent_before_s) / done
        score = state.history[-1].get("score") if state.history else None
        last = "" if score is None else f"  validation {score:.4f}"
        self._setup.reporter.update(
            self._setup.name,
            state.step / plan.steps,
            f"loss {state.train_loss:.3f}{last}  {state.tokens / max(spent, 1e-9):,.0f} tokens/s  "
            f"epoch {state.epoch + state.batch / epoch_steps:.1f}  ETA {format_duration(left)}",
        )

    def _validate(self) -> None:
        state = self._state
        self._average.swap()
        self._model.eval()
        with single_thread():
            numbers = dict(self._objective.validate())
        score = numbers.get("score")  # without one the latest weights are the best ones
        if score is None or state.best_score is None or score > state.best_score:
            state.best_score, state.best_step, state.since_best = score, state.step, 0
            self._best = weights_of(self._model)
        else:
            state.since_best += 1
        self._average.swap()
        self._read_loss()
        record = {"step": state.step, "elapsed_s": round(self._elapsed(), 1)}
        state.history.append({**record, "train_loss": state.train_loss, **numbers})
        shown = "  ".join(f"{key} {value:.4f}" for key, value in numbers.items())
        mark = "  (best)" if state.since_best == 0 else ""
        self._setup.reporter.note(f"{self._setup.name} step {state.step:,}: {shown}{mark}")

    def _read_loss(self) -> None:
        """Fetch the running loss from the device.

        Raises:
            TrainingError: it is not finite.
        """
        self._state.train_loss = float(self._loss)
        if not torch.isfinite(self._loss):
            raise TrainingError(
                f"{self._setup.name}: the loss is {self._state.train_loss} at step "
                f"{self._state.step:,}; try a lower learning rate"
            )

    def _elapsed(self) -> float:
        self._state.elapsed_s = self._spent_before_s + self._setup.clock() - self._started
        return self._state.elapsed_s

    def _save(self) -> None:
        self._elapsed()
        self._read_loss()
        random = self._devices.gather(self._devices.random_state())
        if self._devices.is_main:
            save_checkpoint(self._checkpoint_dir, self._state, self._trained, self._best, random)
        self._devices.wait()
        self._saved = self._setup.clock()


def optimise(trained: Trained, loss: Tensor, *, step: int, rate: float) -> None:
    """Make one step of AdamW with clipped gradients and update the average."""
    for group in trained.optimizer.param_groups:
        group["lr"] = rate
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trained.model.parameters(), MAX_GRADIENT_NORM)
    trained.optimizer.step()
    trained.optimizer.zero_grad(set_to_none=True)
    trained.average.update(step)


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block on one thread.

    Validation is a long row of small operations.  On a busy machine, where each of them waits for
    the slower thread, two threads took minutes for what one thread does in seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_optimizer(model: nn.Module, config: PhaseConfig) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices other than the embedding."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and "embed" not in name
        (decayed if is_matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)


def format_duration(seconds: float) -> str:
    """Return `3:05` for 185 s, `2:03:05` for 7,385 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
