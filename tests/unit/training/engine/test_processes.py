"""Several processes against one: the same losses and gradients, one decision to stop, one refusal.

pytest starts ``torchrun --nproc_per_node 2`` on this very file, once for all tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny
from torch import Tensor, nn
from torch.nn import functional

from mindviz.checkpoint.subject import SubjectData
from mindviz.diffusion import LatentCodec, VAEConfig, VideoUNet, build_unet2d
from mindviz.diffusion.clip import ClipConfig
from mindviz.encoder import EncoderConfig, FMRIEncoder, MaskedConfig
from mindviz.types import MindvizError
from training.data.corpus import Corpus
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.data.targets import Targets
from training.demo.clip import ClipTask
from training.demo.codec import DecoderTask
from training.demo.image import ImageTask
from training.demo.judge import ASPECTS, Judge, JudgeConfig, JudgeTask, LabelledClips
from training.demo.recipe import DEMO_FOUNDATION
from training.engine.loop import LoopConfig, Task, step_generator, train
from training.engine.processes import WHOLE_BATCH, gathered, local
from training.stages.contrast import ContrastConfig, ContrastTask
from training.stages.cotrain import CotrainTask
from training.stages.inflate import InflateTask
from training.stages.mask import MaskTask

ROOT = Path(__file__).parents[4]
CONFIG = LoopConfig(steps=4, batch_size=8, lr=1e-3, warmup=2, ema_decay=0.9, save_every=2, log_every=1)
ENCODER = EncoderConfig(40, 8, embed_dim=8, depth=1, num_heads=2, num_tokens=4, token_dim=8)


class PairTask:
    """Find each row's partner among the batch, and fit it: in-batch negatives beside a mean over samples.

    Half of the module has gradients at even steps, half at odd ones, as the encoders of co-training do.
    """

    name = "pairs"

    def __init__(self, fault: Callable[[int], None] = lambda call: None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = (torch.randn(30, 5, generator=generator) for _ in range(2))
        self.module, self.fault, self.calls = Pairs(), fault, 0

    def __len__(self) -> int:
        return len(self.x)

    def description(self) -> dict[str, Any]:
        return {}

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator, rows: slice = WHOLE_BATCH
    ) -> tuple[Tensor, dict[str, float]]:
        self.fault(self.calls)
        self.calls += 1
        which = int(torch.randint(2, (1,), generator=generator))  # one draw for the batch
        x, y = self.x[indices], self.y[indices]
        x, y = local(model, rows, x + 0.1 * torch.randn(x.shape, generator=generator), y)
        found, scale = model(x, which)
        every, wanted = gathered(found), gathered(y)
        contrast = functional.cross_entropy(scale * every @ wanted.T, torch.arange(len(every)))
        return contrast + functional.mse_loss(found, y), {"contrast": contrast.item()}


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, which: int) -> tuple[Tensor, Tensor]:
        return self.halves[which](x), self.scale.exp()


def _corpus() -> Corpus:
    frames = np.random.default_rng(0).integers(0, 256, (36, 16, 16, 3), dtype=np.uint8)
    return Corpus(frames, tuple(f"caption {i // 9}" for i in range(36)), np.array([0, 18]))


def _latents() -> LatentCorpus:
    generator, corpus = torch.Generator().manual_seed(0), _corpus()
    return LatentCorpus(
        latents=torch.randn(36, 4, 8, 8, generator=generator),
        caption_index=torch.from_numpy(corpus.caption_index),
        tokens=torch.randn(4, 4, 8, generator=generator),
        empty_tokens=torch.zeros(4, 8),
        clip_starts=torch.from_numpy(corpus.clip_starts(6)),
        scale=1.0,
    )


def _scans() -> TrainingScans:
    windows = torch.randn(24, 2, 40, generator=torch.Generator().manual_seed(0))
    data = SubjectData(np.zeros(40), np.ones(40), windows.mean(0).numpy(), np.arange(40))
    return TrainingScans("1", windows, torch.arange(24) % 30, 6, data)


def _judge() -> JudgeTask:
    config = JudgeConfig(size=16, patch=1, width=8)
    labels = {a: np.arange(30) % len(config.classes(a)) for a in ASPECTS}
    return JudgeTask(Judge(config), LabelledClips(_corpus().frames, 6, np.arange(30), labels, np.zeros(30, bool)), {})


def _codec() -> DecoderTask:
    config = VAEConfig(
        block_out_channels=(48,), latent_channels=12, norm_num_groups=1, patch_size=4, scaling_factor=1.0
    )
    return DecoderTask(LatentCodec.from_config(config), _corpus())


def _contrast() -> ContrastTask:
    latents, generator = _latents(), torch.Generator().manual_seed(5)
    image, text = (functional.normalize(torch.randn(n, 6, generator=generator), dim=1) for n in (36, 4))
    targets = Targets(image, text, latents.tokens, latents.caption_index)
    return ContrastTask(ENCODER, _scans(), targets, ContrastConfig())


def _cotrain() -> CotrainTask:
    encoders, scans = {s: FMRIEncoder(ENCODER) for s in "12"}, _scans()
    return CotrainTask(
        encoders, VideoUNet(tiny.UNET), dict.fromkeys("12", scans), _latents(), DEMO_FOUNDATION.scheduler
    )


TASKS: dict[str, Callable[[], Task]] = {
    "pairs": PairTask,
    "codec": _codec,
    "clip": lambda: ClipTask(ClipConfig(8, 16, 8, 8, 1, 4, 6, 8, 1, 2), _corpus(), shift=1),
    "image": lambda: ImageTask(tiny.UNET, _latents(), DEMO_FOUNDATION.scheduler),
    "mask": lambda: MaskTask(MaskedConfig(ENCODER, decoder_dim=8, decoder_depth=1, decoder_heads=2), _scans()),
    "inflate": lambda: InflateTask(
        build_unet2d(tiny.UNET), _latents(), DEMO_FOUNDATION.scheduler, shared_noise=0.3, frame_positions=True
    ),
    "judge": _judge,
    "contrast": _contrast,
    "cotrain": _cotrain,
}
COMPARES_SAMPLES = ("pairs", "clip", "contrast")
"""Tasks whose loss is no mean over samples: in accumulated parts it is another."""


def make(name: str) -> Task:
    torch.manual_seed(0)
    return TASKS[name]()


def on_rank_1(number: int, at: int) -> Callable[[int], None]:
    def fault(call: int) -> None:
        if call == at and os.environ.get("RANK", "1") == "1":
            os.kill(os.getpid(), number)

    return fault


class Poisoned(PairTask):
    """Rank 1's loss of the third step is no number."""

    def loss(self, *given: Any) -> Any:
        loss, figures = super().loss(*given)
        return loss * float("nan") if self.calls == 3 and os.environ["RANK"] == "1" else loss, figures


def work(out: Path) -> None:
    """What each of the two processes does."""
    for name in TASKS:
        train(make(name), CONFIG, out / name, quiet=True)
        if name not in COMPARES_SAMPLES:
            train(make(name), replace(CONFIG, accumulate=2), out / f"{name}-parts", quiet=True)
    said = {}
    for name, task in {
        "interrupted": PairTask(on_rank_1(signal.SIGINT, 1)),
        "terminated": PairTask(on_rank_1(signal.SIGTERM, 1)),
        "poisoned": Poisoned(),
    }.items():
        torch.manual_seed(0)
        task.module = Pairs()
        try:
            train(task, CONFIG, out / name, quiet=True)
        except (KeyboardInterrupt, MindvizError) as stop:
            said[name] = f"{type(stop).__name__}: {stop}"
    try:
        train(make("pairs"), replace(CONFIG, batch_size=9), out / "unequal", quiet=True)
    except MindvizError as refusal:
        said["unequal"] = str(refusal)
    (out / f"said{os.environ['RANK']}.json").write_text(json.dumps(said))


def launched(launcher: list[str], script: str, out: Path) -> Path:
    """`out`, once the processes that a launcher (a module and its options) starts on a script have filled it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, script, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did together."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return launched(launcher, __file__, tmp_path_factory.mktemp("together"))


def curve(folder: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = {}
    for file in sorted((folder / "logs").rglob("events*"), key=lambda p: p.stat().st_mtime):
        points |= {e.step: e.value for e in EventAccumulator(str(file)).Reload().Scalars("loss")}
    return [points[step] for step in sorted(points)]


def _state(folder: Path) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights of a saved state, and the optimizer's running means of the gradients."""
    from safetensors.torch import load_file

    optimizer = torch.load(folder / "state" / "optimizer.bin", weights_only=True)["state"]
    return load_file(folder / "state" / "model.safetensors"), [optimizer[i]["exp_avg"] for i in sorted(optimizer)]


def _assert_same(found: Path, wanted: Path) -> None:
    assert curve(found) == pytest.approx(curve(wanted), rel=1e-5) and len(curve(found)) == CONFIG.steps
    (weights, means), (their_weights, their_means) = _state(found), _state(wanted)
    torch.testing.assert_close(means, their_means, rtol=1e-3, atol=1e-6)
    assert_same_weights(weights, their_weights)


def assert_same_weights(weights: dict[str, Tensor], their_weights: dict[str, Tensor]) -> None:
    # Adam makes steps of its learning rate of gradients that are zero but for rounding (biases of keys, for one)
    torch.testing.assert_close(weights, their_weights, rtol=1e-4, atol=2 * CONFIG.steps * CONFIG.lr)
    apart = sum(int((~torch.isclose(weights[n], their_weights[n], rtol=1e-3, atol=1e-5)).sum()) for n in weights)
    assert apart <= 0.02 * sum(w.numel() for w in weights.values())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of what one process made of a task."""
    home = tmp_path_factory.mktemp("alone")

    def folder(name: str) -> Path:
        if not (home / name).exists():
            train(make(name), CONFIG, home / name, quiet=True)
        return home / name

    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_find_the_losses_and_weights_of_one(
    name: str, together: Path, alone: Callable[[str], Path]
) -> None:
    _assert_same(together / name, alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in TASKS if n not in COMPARES_SAMPLES])
def test_so_do_two_processes_of_two_accumulated_parts(name: str, together: Path, alone: Callable[[str], Path]) -> None:
    _assert_same(together / f"{name}-parts", alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupted", "terminated"])
def test_a_signal_to_one_process_stops_both_after_the_same_step(
    how: str, together: Path, alone: Callable[[str], Path]
) -> None:
    said = [json.loads((together / f"said{rank}.json").read_text())[how] for rank in range(2)]
    assert said[0] == said[1] and said[0].startswith("KeyboardInterrupt: pairs was interrupted after step 2 of 4")
    train(make("pairs"), CONFIG, together / how, quiet=True)  # one process goes on
    _assert_same(together / how, alone("pairs"))


@pytest.mark.slow
def test_a_bad_loss_of_one_process_stops_both_and_its_samples_are_named(together: Path) -> None:
    said = [json.loads((together / f"said{rank}.json").read_text())["poisoned"] for rank in range(2)]
    drawn = torch.randint(30, (8,), generator=step_generator(0, 2, 96)).tolist()
    assert (
        said[0] == said[1]
        and f"the loss of step 2 is nan, expected a finite number; its samples are {drawn[4:]}" in said[0]
    )


@pytest.mark.slow
def test_shares_that_are_not_equal_are_refused(together: Path) -> None:
    said = json.loads((together / "said1.json").read_text())["unequal"]
    assert said == "batch_size: expected a multiple of 2 processes x 1 accumulated parts, found 9"


if __name__ == "__main__":
    work(Path(sys.argv[1]))
