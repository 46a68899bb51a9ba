"""The one training loop, on Hugging Face Accelerate: every stage hands it a task and a configuration.

A step's batch and noise depend on (seed, step) alone, never on what ran before, so an interrupted run that resumes
continues as if it had not stopped; nor on how many processes share the batch, so two find the loss and the weights of
one, to floating-point error. Only dropout inside modules differs between numbers of processes and of accumulated parts.

One process: ``python -m training.…``. Several GPUs, on one machine or more: ``accelerate launch --multi_gpu
--num_processes 8 -m training.…``. Several CPU processes: ``torchrun --nproc_per_node 2 -m training.…``, since
``accelerate launch --cpu`` starts but one without MPI. FSDP, on GPUs or CPUs: ``accelerate launch --config_file FILE -m
training.…`` with the file that ``accelerate config`` writes, or torchrun and ``ACCELERATE_USE_FSDP=true``;
`engine.shards` says which settings work. Precision and accumulation are those of `LoopConfig`. No GPU could be tried
here; DeepSpeed needs them.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, ProjectConfiguration
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from mindviz.storage import load_tensors, save_tensors
from mindviz.types import MindvizError
from training.engine.batch import Batch, share
from training.engine.interrupt import Interrupt
from training.engine.run_folder import claim, load_training_state, save_training_state, weights_fingerprint
from training.engine.shards import SHARDED, begin, fsdp_plugin, require_same_weights, shardable

SAVE_SECONDS = 300


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast, how often.

    Attributes
    ----------
    batch_size : int
        Samples of one step over all processes and accumulated parts, which get equal shares.
    warmup : int
        Steps of linear warm-up, before the cosine to zero.
    ema_decay : float
        Of the averaged weights that are saved at the end; 0 switches averaging off.
    accumulate : int
        Parts of a step, one after the other; a loss that compares the samples of a batch sees those of one part.
    mixed_precision : str
        "no", "bf16" or "fp16" (on accelerators alone).
    gradient_checkpointing : bool
        Recompute activations in the backward pass instead of keeping them: less memory, more time, the same result.
    """

    steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.01
    warmup: int = 100
    grad_clip: float = 1.0
    ema_decay: float = 0.0
    accumulate: int = 1
    mixed_precision: str = "no"
    seed: int = 0
    save_every: int = 500
    log_every: int = 50
    gradient_checkpointing: bool = False


class Task(Protocol):
    """What a stage must tell the loop: one module to train, how a batch is drawn, and the loss on it.

    For `gradient_checkpointing`, the task or its module has a method ``set_gradient_checkpointing(enable)``.
    """

    name: str

    @property
    def module(self) -> nn.Module:
        """What is trained; `train` hands it to `loss`, wrapped where there are several processes."""
        ...

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """The batch of these samples, on the CPU; all randomness but dropout's comes from `generator`."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of a batch, or of a part of one, and figures to log.

        Whatever has gradients goes through ``model(...)``, not through `module`. A loss that compares samples with each
        other calls `training.engine.processes.gathered` on what it compares.
        """
        ...

    def __len__(self) -> int:
        """How many samples there are to draw from."""
        ...

    def description(self) -> dict[str, Any]:
        """What a resumed run must agree with: configurations and the fingerprint of the data."""
        ...


class StepCounter:
    """The step reached, saved with the rest of a run's state."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The generator of one step (and part of its randomness): a function of its arguments alone."""
    mixed = (seed * 1_000_003 + step) * 97 + part
    return torch.Generator().manual_seed(mixed % (2**63 - 1))


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then a half cosine to zero at the last step."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    fraction = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: not on biases, norms and scalars."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _accelerator(config: LoopConfig, folder: Path) -> Accelerator:
    AcceleratorState._reset_state()  # one process trains several stages, and each may have another precision
    cpu = not torch.accelerator.is_available()  # Accelerate's own; given, it also joins CPU processes
    plugin = fsdp_plugin(config.mixed_precision, cpu)
    try:
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision=config.mixed_precision,
            fsdp_plugin=plugin,
            log_with="tensorboard",
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
            # co-training trains one subject's encoder in a step, and the others get no gradients
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise MindvizError(f"mixed_precision {config.mixed_precision!r} cannot be had here: {error}") from error
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would train in float32
        raise MindvizError("mixed_precision: expected no or bf16 on a CPU, found fp16")
    return accelerator


def check_shares(config: LoopConfig, processes: int, kind: DistributedType) -> None:
    """Refuse a configuration that these processes could not train as a single one would.

    Raises
    ------
    MindvizError
        Shares of the batch are not equal, or an option needs what sharded parameters do not give.
    """
    parts = processes * config.accumulate
    if config.batch_size % parts:
        raise MindvizError(
            f"batch_size: expected a multiple of {processes} processes x {config.accumulate} accumulated parts, "
            f"found {config.batch_size}"
        )
    if config.ema_decay and kind in SHARDED:
        raise MindvizError(
            f"ema_decay: expected 0 under {kind.value}, where no process holds all weights to average, "
            f"found {config.ema_decay}"
        )
    if config.accumulate > 1 and kind == DistributedType.DEEPSPEED:
        raise MindvizError(f"accumulate: expected 1 under DEEPSPEED, which has its own, found {config.accumulate}")


def _set_checkpointing(task: Task, enable: bool) -> None:
    for owner in (task, task.module):
        method = getattr(owner, "set_gradient_checkpointing", None)
        if method is not None:
            method(enable)
            return
    raise MindvizError(f"gradient_checkpointing: expected False for the stage {task.name}, which has none, found True")


def train(task: Task, config: LoopConfig, folder: Path, quiet: bool = False) -> nn.Module:
    """Train `task.module` for `config.steps` steps, resuming what `folder` holds, and return the weights to keep.

    The module is trained where Accelerate says (a GPU where there is one) and handed back on its own device.

    Parameters
    ----------
    folder : Path
        Holds run.json, the state (atomic, every `save_every` steps and every five minutes) and TensorBoard logs.

    Returns
    -------
    nn.Module
        `task.module`, holding the averaged weights where `ema_decay` is above 0. Under FSDP, which cuts a copy into
        pieces, they are also in ``weights.safetensors``.

    Raises
    ------
    MindvizError
        `folder` belongs to a run with another configuration or of other weights; or a loss or its gradient is not
        finite (names step and samples); or the state cannot be written.
    KeyboardInterrupt
        Ctrl-C or a request to terminate; the state of the last step is saved first.
    """
    accelerator = _accelerator(config, folder)
    check_shares(config, accelerator.num_processes, accelerator.distributed_type)
    defaults = {f.name: f.default for f in fields(LoopConfig) if f.default is not MISSING}
    run = {"task": task.name, "loop": asdict(config), **task.description()}
    initial = weights_fingerprint(task.module)
    if accelerator.distributed_type == DistributedType.FSDP:
        require_same_weights(accelerator, initial)
    claim(folder, run, defaults, initial, write=accelerator.is_main_process)
    accelerator.init_trackers(task.name)
    home = next(task.module.parameters()).device
    if config.gradient_checkpointing:
        _set_checkpointing(task, True)
    training = _Training(task, config, folder, accelerator)
    load_training_state(accelerator, folder)
    try:
        training.run(quiet)
    finally:
        for tracker in accelerator.trackers:  # `end_training` would also part the processes, and a stage may follow
            tracker.finish()
    if config.gradient_checkpointing:
        _set_checkpointing(task, False)
    return training.finished(home)


class _Training:
    """One call of `train`, from the state that was loaded to the last step."""

    def __init__(self, task: Task, config: LoopConfig, folder: Path, accelerator: Accelerator) -> None:
        self.task, self.config, self.folder, self.accelerator = task, config, folder, accelerator
        self.interrupt, self.last_save = Interrupt(patient=accelerator.num_processes > 1), time.monotonic()
        self.sharded = accelerator.distributed_type in SHARDED
        module = shardable(task.module) if self.sharded else task.module
        optimizer = torch.optim.AdamW(_parameter_groups(module, config.weight_decay), lr=config.lr, fused=True)
        self.model, self.optimizer = accelerator.prepare(module, optimizer)
        if accelerator.distributed_type == DistributedType.FSDP:
            begin(self.optimizer)
        self.progress = StepCounter()
        self.average: AveragedModel | None = None
        if config.ema_decay:
            averaging = get_ema_multi_avg_fn(config.ema_decay)
            self.average = AveragedModel(task.module, multi_avg_fn=averaging, use_buffers=True)
        accelerator.register_for_checkpointing(self.progress, *([self.average] if self.average else []))

    def run(self, quiet: bool) -> None:
        """All steps that are left."""
        self.model.train()
        c, progress, accelerator = self.config, self.progress, self.accelerator
        hidden = quiet or not accelerator.is_main_process
        bar = tqdm(total=c.steps, initial=progress.step, desc=self.task.name, disable=hidden, mininterval=5)
        with bar, self.interrupt:
            while progress.step < c.steps:
                figures, leave, due = self.step()
                bar.update(1)
                if progress.step % c.log_every == 0 or progress.step == c.steps:
                    bar.set_postfix({k: f"{v:.4g}" for k, v in figures.items()})
                    accelerator.log(figures, step=progress.step)
                if leave or due or progress.step % c.save_every == 0 or progress.step == c.steps:
                    save_training_state(accelerator, self.folder)
                    self.last_save = time.monotonic()
                if leave:
                    raise KeyboardInterrupt(
                        f"{self.task.name} was interrupted after step {progress.step} of {c.steps}; its state is in "
                        f"{self.folder / 'state'}, and the same command goes on from there"
                    )

    def step(self) -> tuple[dict[str, float], bool, bool]:
        """One optimizer step: its mean figures, and whether to leave and to save, on which all processes agree."""
        c, step, accelerator = self.config, self.progress.step, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(c, step)
        drawn = torch.randint(len(self.task), (c.batch_size,), generator=step_generator(c.seed, step, 96))
        batch = self.task.draw(drawn, step_generator(c.seed, step))
        parts = [self._part(batch, part) for part in range(c.accumulate)]
        names, values = list(parts[0]), torch.tensor([list(p.values()) for p in parts], dtype=torch.float64)
        wishes = [self.interrupt.asked, time.monotonic() - self.last_save > SAVE_SECONDS]
        everyone = self._everyone(torch.cat([torch.tensor(wishes).double(), values.flatten()]))
        leave, due = everyone[:, :2].any(0).tolist()
        values = everyone[:, 2:].unflatten(1, values.shape)  # (processes, parts, figures), the loss first
        for rank, part in (~torch.isfinite(values[:, :, 0])).nonzero().tolist():
            samples = drawn[share(c.batch_size, part * accelerator.num_processes + rank, values[:, :, 0].numel())]
            self._refuse("loss", values[rank, part, 0].item(), samples)
        norm = accelerator.clip_grad_norm_(self.model.parameters(), c.grad_clip)
        # in fp16 an overflow only makes the scaler skip the step
        if norm is not None and c.mixed_precision != "fp16" and not math.isfinite(norm):
            self._refuse("gradient's norm", float(norm), drawn)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(accelerator.unwrap_model(self.model))
        self.progress.step += 1
        figures = dict(zip(names, values.mean((0, 1)).tolist(), strict=True))
        return figures | {"lr": learning_rate(c, step)}, leave, due

    def _part(self, batch: Batch, part: int) -> dict[str, float]:
        """Add the gradients of this process's share of one part of the batch; its loss and figures."""
        c, step, accelerator = self.config, self.progress.step, self.accelerator
        index = part * accelerator.num_processes + accelerator.process_index
        mine = batch.part(index, c.accumulate * accelerator.num_processes, accelerator.device)
        torch.manual_seed(step_generator(c.seed, step, index).initial_seed())  # dropout must differ between shares
        last = part == c.accumulate - 1
        with nullcontext() if last else accelerator.no_sync(self.model):  # processes need not agree until the last part
            with accelerator.autocast(), _attention_kernel(accelerator):
                loss, figures = self.task.loss(self.model, mine)
            accelerator.backward(loss / c.accumulate)
        return {"loss": loss.item(), **figures}

    def _everyone(self, own: Tensor) -> Tensor:
        """The vectors (n,) of all processes, (processes, n)."""
        if self.accelerator.num_processes == 1:
            return own[None]
        return self.accelerator.gather(own[None].to(self.accelerator.device)).cpu()

    def _refuse(self, what: str, found: float, samples: Tensor) -> None:
        raise MindvizError(
            f"{self.task.name}: the {what} of step {self.progress.step} is {found}, expected a finite number; "
            f"its samples are {samples[:16].tolist()}"
        )

    def finished(self, home: torch.device) -> nn.Module:
        """The module with the weights to keep, as `train` returns it."""
        module = self.task.module
        if self.sharded:
            state, path = self.accelerator.get_state_dict(self.model), self.folder / "weights.safetensors"
            if self.accelerator.is_main_process:  # no other process has them all
                shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
                save_tensors(path, {name: tensor.reshape(shapes[name]) for name, tensor in state.items()})
            self.accelerator.wait_for_everyone()
            module.load_state_dict(load_tensors(path))
            return module.eval()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # back to its own forward
        if self.average is not None:
            module.load_state_dict(self.average.module.state_dict())
        return module.to(home).eval()


def _attention_kernel(accelerator: Accelerator) -> AbstractContextManager[None]:
    """On a CPU in bfloat16, plain attention: torch's fused one took a third of a step there in its backward pass."""
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()
