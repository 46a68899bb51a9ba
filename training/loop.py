"""The one training loop, on Hugging Face Accelerate: every stage hands it a task and a configuration.

A step's batch and noise depend on (seed, step) alone, never on what ran before, so an interrupted run that resumes
continues as if it had not stopped.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from mindviz.checkpoint import atomic_file
from mindviz.types import MindvizError


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast, how often.

    Attributes
    ----------
    batch_size : int
        Samples of one step over all processes and accumulated parts.
    warmup : int
        Steps of linear warm-up, before the cosine to zero.
    ema_decay : float
        Of the averaged weights that are saved at the end; 0 switches averaging off.
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


class Task(Protocol):
    """What a stage must tell the loop: one module to train, and its loss on a batch drawn for a step."""

    name: str

    @property
    def module(self) -> nn.Module:
        """What is trained; `train` hands it back to `loss`, wrapped for several processes where there are."""
        ...

    def loss(self, model: nn.Module, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss, and figures to log, of the samples `indices`; all randomness from `generator`."""
        ...

    def __len__(self) -> int:
        """How many samples there are to draw from."""
        ...

    def description(self) -> dict[str, Any]:
        """What a resumed run must agree with: configurations and the fingerprint of the data."""
        ...


class Progress:
    """The step reached, saved with the rest of a run's state."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The generator of one step (and accumulated part): a function of its arguments alone."""
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


def _claim(folder: Path, task: Task, config: LoopConfig) -> None:
    """Write what this run is into its folder, or refuse a folder that another run began."""
    mine = {"task": task.name, "loop": asdict(config), **task.description()}
    mine = json.loads(json.dumps(mine))
    path = folder / "run.json"
    if path.exists():
        theirs = json.loads(path.read_text())
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        if differing:
            k = differing[0]
            raise MindvizError(f"{path} was begun with {k} = {theirs.get(k)}, this run has {k} = {mine.get(k)}")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        Path(aside).write_text(json.dumps(mine, indent=1))


def _save(accelerator: Accelerator, folder: Path) -> None:
    """Save the whole state aside, then put it in the old one's place: a kill leaves one of the two usable."""
    new, state, old = folder / "state.new", folder / "state", folder / "state.old"
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(new))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if state.exists():
            state.rename(old)
        new.rename(state)
        shutil.rmtree(old, ignore_errors=True)


def _resume(accelerator: Accelerator, folder: Path) -> None:
    for name in ("state", "state.old"):  # the old one stands where a kill fell between the two renames
        if (folder / name).exists():
            accelerator.load_state(str(folder / name))
            return


def _parts(config: LoopConfig, size: int, step: int, processes: int, rank: int) -> Iterator[tuple[Tensor, int]]:
    """This process's sample indices for each accumulated part of a step."""
    drawn = torch.randint(size, (config.batch_size,), generator=step_generator(config.seed, step, 96))
    for part, chunk in enumerate(drawn.chunk(config.accumulate)):
        yield chunk.chunk(processes)[rank], part * processes + rank


def _accelerator(config: LoopConfig, folder: Path) -> Accelerator:
    AcceleratorState._reset_state()  # one process trains several stages, and each may have another precision
    return Accelerator(
        cpu=True,  # the tasks make their batches there
        mixed_precision=config.mixed_precision,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
    )


def train(task: Task, config: LoopConfig, folder: Path, quiet: bool = False) -> nn.Module:
    """Train `task.module` for `config.steps` steps, resuming what `folder` holds, and return the weights to keep.

    Parameters
    ----------
    folder : Path
        Holds run.json, the state of the optimizer (atomic, every `save_every` steps) and TensorBoard logs.

    Returns
    -------
    nn.Module
        `task.module`, holding the averaged weights where `ema_decay` is above 0.

    Raises
    ------
    MindvizError
        `folder` belongs to a run with another configuration; or a loss is not finite (names step and samples).
    """
    _claim(folder, task, config)
    accelerator = _accelerator(config, folder)
    accelerator.init_trackers(task.name)
    optimizer = torch.optim.AdamW(_parameter_groups(task.module, config.weight_decay), lr=config.lr, fused=True)
    model, optimizer = accelerator.prepare(task.module, optimizer)
    progress = Progress()
    average = (
        AveragedModel(task.module, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        if config.ema_decay
        else None
    )
    accelerator.register_for_checkpointing(progress, *([average] if average else []))
    _resume(accelerator, folder)
    model.train()
    bar = tqdm(total=config.steps, initial=progress.step, desc=task.name, disable=quiet, mininterval=5)
    last_save = time.monotonic()
    while progress.step < config.steps:
        figures = _step(accelerator, task, model, optimizer, config, progress.step)
        if average is not None:
            average.update_parameters(accelerator.unwrap_model(model))
        progress.step += 1
        bar.update(1)
        if progress.step % config.log_every == 0 or progress.step == config.steps:
            bar.set_postfix({k: f"{v:.4g}" for k, v in figures.items()})
            accelerator.log(figures, step=progress.step)
        if (
            progress.step % config.save_every == 0
            or progress.step == config.steps
            or time.monotonic() - last_save > 300
        ):
            _save(accelerator, folder)
            last_save = time.monotonic()
    bar.close()
    accelerator.end_training()
    if average is not None:
        task.module.load_state_dict(average.module.state_dict())
    return task.module.eval()


def _attention_kernel(accelerator: Accelerator) -> AbstractContextManager[None]:
    """On a CPU in bfloat16, plain attention: torch's fused one took a third of a step there in its backward pass."""
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def _step(
    accelerator: Accelerator, task: Task, model: nn.Module, optimizer: Any, config: LoopConfig, step: int
) -> dict[str, float]:
    """One optimizer step; returns the figures of its last part."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    figures: dict[str, float] = {}
    parts = list(_parts(config, len(task), step, accelerator.num_processes, accelerator.process_index))
    for indices, part in parts:
        generator = step_generator(config.seed, step, part)
        torch.manual_seed(generator.initial_seed())  # dropout inside modules
        with accelerator.autocast(), _attention_kernel(accelerator):
            loss, figures = task.loss(model, indices, generator)
        if not torch.isfinite(loss):
            raise MindvizError(
                f"{task.name}: the loss of step {step} is {loss.item()}, expected a finite number; "
                f"its samples are {indices[:16].tolist()}"
            )
        accelerator.backward(loss / len(parts))
        figures = {"loss": loss.item(), **figures, "lr": learning_rate(config, step)}
    accelerator.clip_grad_norm_(model.parameters(), config.grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return figures
