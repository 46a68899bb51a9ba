"""Tasks at tiny sizes that two processes train together; run as a script, this file is what each of them does."""

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
import torch
from torch import Tensor, nn
from torch.nn import functional

from mindviz.checkpoint.subject import SubjectData
from mindviz.diffusion import LatentCodec, VAEConfig, VideoUNet, build_unet2d
from mindviz.diffusion.clip import ClipConfig
from mindviz.encoder import EncoderConfig, FMRIEncoder, MaskedConfig
from mindviz.types import MindvizError
from support import tiny
from training.data.corpus import Corpus
from training.data.latents import LatentCorpus
from training.data.scans import TrainingScans
from training.data.targets import Targets
from training.demo.clip import ClipTask
from training.demo.codec import DecoderTask
from training.demo.image import ImageTask
from training.demo.judge import ASPECTS, Judge, JudgeConfig, JudgeTask, LabelledClips
from training.demo.recipe import DEMO_PRETRAINED
from training.engine.batch import Batch
from training.engine.loop import LoopConfig, Task, train
from training.engine.processes import gathered
from training.stages.contrast import ContrastConfig, ContrastTask
from training.stages.cotrain import CotrainTask
from training.stages.encoders import PlainEncoder
from training.stages.inflate import InflateTask
from training.stages.mask import MaskTask

ROOT = Path(__file__).parents[2]


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

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        which = int(torch.randint(2, (1,), generator=generator))  # one draw for the batch
        x, y = self.x[indices], self.y[indices]
        return Batch({"x": x + 0.1 * torch.randn(x.shape, generator=generator), "y": y}, {"which": which})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        self.fault(self.calls)
        self.calls += 1
        y = batch["y"]
        found, scale = model(batch["x"], batch["which"])
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
    return ContrastTask(PlainEncoder(FMRIEncoder(ENCODER)), _scans(), targets, ContrastConfig())


def _cotrain() -> CotrainTask:
    encoders, scans = {s: PlainEncoder(FMRIEncoder(ENCODER)) for s in "12"}, _scans()
    return CotrainTask(
        encoders,
        VideoUNet(tiny.UNET),
        dict.fromkeys("12", scans),
        _latents(),
        DEMO_PRETRAINED.scheduler,
        token_weight=0.1,
    )


TASKS: dict[str, Callable[[], Task]] = {
    "pairs": PairTask,
    "codec": _codec,
    "clip": lambda: ClipTask(ClipConfig(8, 16, 8, 8, 1, 4, 6, 8, 1, 2), _corpus(), shift=1),
    "image": lambda: ImageTask(tiny.UNET, _latents(), DEMO_PRETRAINED.scheduler),
    "mask": lambda: MaskTask(MaskedConfig(ENCODER, decoder_dim=8, decoder_depth=1, decoder_heads=2), _scans()),
    "inflate": lambda: InflateTask(
        build_unet2d(tiny.UNET), _latents(), DEMO_PRETRAINED.scheduler, shared_noise=0.3, frame_positions=True
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


def curve(folder: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = {}
    for file in sorted((folder / "logs").rglob("events*"), key=lambda p: p.stat().st_mtime):
        points |= {e.step: e.value for e in EventAccumulator(str(file)).Reload().Scalars("loss")}
    return [points[step] for step in sorted(points)]


def assert_same_weights(weights: dict[str, Tensor], their_weights: dict[str, Tensor]) -> None:
    # Adam makes steps of its learning rate of gradients that are zero but for rounding (biases of keys, for one)
    torch.testing.assert_close(weights, their_weights, rtol=1e-4, atol=2 * CONFIG.steps * CONFIG.lr)
    apart = sum(int((~torch.isclose(weights[n], their_weights[n], rtol=1e-3, atol=1e-5)).sum()) for n in weights)
    assert apart <= 0.02 * sum(w.numel() for w in weights.values())


if __name__ == "__main__":
    work(Path(sys.argv[1]))
