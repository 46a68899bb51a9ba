"""The judge of the demo world: a video classifier that names the object, category, setting and motion of a clip.

It learns from films of its own, drawn with names and seeds that no decoder's training ever uses, and never from decoded
clips, so it can say whether a decoded clip shows what the subject watched. ``python -m training.demo.judge`` trains it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mindviz.simulate.films import MOTIONS, Film, Shot, make_film
from mindviz.simulate.settings import SETTINGS
from mindviz.simulate.sprites import CATEGORIES, OBJECTS
from mindviz.storage import load_module, read_config, save_module, write_json
from mindviz.types import MindvizError
from training.engine.batch import Batch
from training.engine.loop import LoopConfig, train

ASPECTS = ("category", "object", "setting", "motion")
JUDGE_SEED = (
    730_000  # the films of the demo dataset have seed 0; those of the judge begin here, under names of their own
)


@dataclass(frozen=True)
class JudgeConfig:
    """The shape of the judge and the names of its classes, in the order of its scores.

    Attributes
    ----------
    num_frames, size : the clips it reads: (num_frames, size, size, 3).
    patch : pixels to a side of a stem patch; convolutions at full resolution are slow on a CPU.
    width : channels of the first stage; the second has twice, the third four times as many.
    """

    objects: tuple[str, ...] = tuple(o.name for o in OBJECTS)
    categories: tuple[str, ...] = CATEGORIES
    settings: tuple[str, ...] = tuple(SETTINGS)
    motions: tuple[str, ...] = tuple(MOTIONS)
    num_frames: int = 6
    size: int = 64
    patch: int = 4
    width: int = 32

    def classes(self, aspect: str) -> tuple[str, ...]:
        """The class names of one of `ASPECTS`."""
        return {
            "category": self.categories,
            "object": self.objects,
            "setting": self.settings,
            "motion": self.motions,
        }[aspect]


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity, on (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Judge(nn.Module):
    """Patches, then small convolutions on each frame; their pool tells what is shown, 3-D convolutions how it moves."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.middle = nn.Sequential(
            nn.Conv2d(3, w, config.patch, stride=config.patch),
            Residual(w),
            nn.Conv2d(w, 2 * w, 2, stride=2),
            Residual(2 * w),
        )
        self.deep = nn.Sequential(
            nn.Conv2d(2 * w, 4 * w, 2, stride=2), Residual(4 * w), nn.GroupNorm(8, 4 * w), nn.GELU()
        )
        side = config.size // config.patch // 4
        self.moving = nn.Sequential(
            nn.Conv3d(2 * w, w, 1),
            nn.GELU(),
            nn.Conv3d(w, w, 3, padding=1),
            nn.GELU(),
            nn.Conv3d(w, w, (3, 2, 2), stride=(1, 2, 2), padding=(1, 0, 0)),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(w * config.num_frames * side * side, 4 * w),
            nn.GELU(),
        )
        pooled = {"category": 8 * w, "object": 8 * w, "setting": 8 * w, "motion": 4 * w}
        self.heads = nn.ModuleDict({a: nn.Linear(pooled[a], len(config.classes(a))) for a in ASPECTS})

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What is shown (B, 8 width) and how it moves (B, 4 width) in clips (B, F, 3, H, W) in 0..1."""
        batch = len(pixels)
        middle = self.middle(rearrange(pixels, "b f c h w -> (b f) c h w") * 2 - 1)
        deep = self.deep(middle)
        average = reduce(deep, "(b f) c h w -> b c", "mean", b=batch)
        largest = reduce(reduce(deep, "n c h w -> n c", "max"), "(b f) c -> b c", "mean", b=batch)
        return torch.cat([average, largest], dim=1), self.moving(rearrange(middle, "(b f) c h w -> b c f h w", b=batch))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) by aspect of clips (B, F, 3, H, W) in 0..1."""
        shown, moving = self.features(pixels)
        return {a: head(moving if a == "motion" else shown) for a, head in self.heads.items()}

    @torch.no_grad()
    def probabilities(self, clips: np.ndarray, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Class probabilities (N, classes) by aspect of uint8 clips (N, F, H, W, 3)."""
        parts = [self(pixels) for pixels in self._batches(clips, batch_size)]
        return {a: torch.cat([p[a] for p in parts]).softmax(dim=1).double().numpy() for a in ASPECTS}

    @torch.no_grad()
    def embeddings(self, clips: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """The features under the heads, (N, 12 width), of uint8 clips (N, F, H, W, 3): for comparing clips."""
        parts = [torch.cat(self.features(pixels), dim=1) for pixels in self._batches(clips, batch_size)]
        return torch.cat(parts).double().numpy()

    def _batches(self, clips: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        c = self.config
        if clips.dtype != np.uint8 or clips.shape[1:] != (c.num_frames, c.size, c.size, 3) or len(clips) == 0:
            raise MindvizError(
                f"the judge reads uint8 clips (N, {c.num_frames}, {c.size}, {c.size}, 3), "
                f"found {clips.dtype} {clips.shape}"
            )
        self.eval()
        return (to_pixels(clips[i : i + batch_size]) for i in range(0, len(clips), batch_size))

    def labels(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        """The likeliest class index (N,) by aspect of uint8 clips (N, F, H, W, 3)."""
        return {a: p.argmax(axis=1) for a, p in self.probabilities(clips).items()}


def to_pixels(clips: np.ndarray) -> Tensor:
    """Clips uint8 (N, F, H, W, 3) -> float32 (N, F, 3, H, W) in 0..1."""
    return rearrange(torch.from_numpy(np.ascontiguousarray(clips)), "n f h w c -> n f c h w").float() / 255


def to_clips(pixels: Tensor) -> np.ndarray:
    """Float (N, F, 3, H, W) in 0..1 -> clips uint8 (N, F, H, W, 3)."""
    return rearrange((pixels * 255).round().to(torch.uint8), "n f c h w -> n f h w c").numpy()


def load_judge(folder: Path | str) -> Judge:
    """A judge saved by `train_judge`."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise MindvizError(
            f"{folder / 'config.json'} is missing: a judge's folder is made by `python -m training.demo.judge`"
        )
    judge = Judge(read_config(folder, JudgeConfig))
    load_module(folder, judge)
    return judge.eval()


def dominant_shot(shots: Sequence[Shot], start: int, stop: int) -> tuple[int, bool]:
    """The shot that fills most of frames start..stop (the earlier of two equals), and whether there are several."""
    filled = np.array([max(0, min(s.stop, stop) - max(s.start, start)) for s in shots])
    if filled.max(initial=0) == 0:
        raise MindvizError(f"no shot covers frames {start} to {stop}")
    return int(filled.argmax()), int((filled > 0).sum()) > 1


def shot_labels(shot: Shot, config: JudgeConfig) -> dict[str, int]:
    """The class indices of a shot by aspect."""
    found = {}
    for aspect in ASPECTS:
        name, classes = getattr(shot, aspect), config.classes(aspect)
        if name not in classes:
            raise MindvizError(f"the judge knows no {aspect} {name!r}; it knows {', '.join(classes)}")
        found[aspect] = classes.index(name)
    return found


@dataclass(frozen=True)
class LabelledClips:
    """Clips of films: all frames uint8 (M, H, W, 3) once, and where each clip starts in them.

    `starts` (N,), `labels` class indices (N,) by aspect, `straddles` (N,): whether a cut falls into the clip.
    """

    frames: np.ndarray
    length: int
    starts: np.ndarray
    labels: dict[str, np.ndarray]
    straddles: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def clips(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (n, F, H, W, 3)."""
        return self.frames[self.starts[indices][:, None] + np.arange(self.length)]


def film_clips(film: Film, config: JudgeConfig, stride: int) -> LabelledClips:
    """Every `stride`-th clip of a film with its labels."""
    starts = np.arange(0, len(film.frames) - config.num_frames + 1, stride)
    shots = [dominant_shot(film.shots, int(s), int(s) + config.num_frames) for s in starts]
    labels = [shot_labels(film.shots[i], config) for i, _ in shots]
    return LabelledClips(
        film.frames,
        config.num_frames,
        starts,
        {a: np.array([found[a] for found in labels]) for a in ASPECTS},
        np.array([straddles for _, straddles in shots]),
    )


def draw_clips(names: Sequence[str], seed: int, seconds: float, config: JudgeConfig, stride: int) -> LabelledClips:
    """The clips of films called `names`; half of the films show the pairs that the decoder's training films do not.

    So every (object, setting) pair is about as common as any other, and the judge has no prejudice against unseen ones.
    """
    parts = [
        film_clips(make_film(name, seed, seconds, test=i % 2 == 1), config, stride)
        for i, name in enumerate(tqdm(names, desc="drawing the judge's films", mininterval=5))
    ]
    offsets = np.cumsum([0] + [len(p.frames) for p in parts[:-1]])
    return LabelledClips(
        np.concatenate([p.frames for p in parts]),
        config.num_frames,
        np.concatenate([p.starts + offset for p, offset in zip(parts, offsets, strict=True)]),
        {a: np.concatenate([p.labels[a] for p in parts]) for a in ASPECTS},
        np.concatenate([p.straddles for p in parts]),
    )


def roughen(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Make clips (B, F, 3, H, W) look as if decoded: blurred, recoloured, speckled, and blotchy from frame to frame.

    A quarter of the clips stay as they are. What a clip shows and how it moves is never changed.
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def per_clip(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * rand(len(pixels), 1, channels, 1, 1)

    size = pixels.shape[-1]
    frames = rearrange(pixels, "b f c h w -> (b f) c h w")
    small = F.interpolate(frames, scale_factor=0.5, mode="bilinear", antialias=True)
    soft = F.interpolate(small, size=(size, size), mode="bilinear")
    soft = rearrange(soft, "(b f) c h w -> b f c h w", b=len(pixels))
    rough = torch.lerp(pixels, soft, per_clip(0, 1))
    grey = rough.mean(dim=2, keepdim=True)
    rough = torch.lerp(grey, rough, per_clip(0.7, 1.2))
    middle = rough.mean(dim=(1, 2, 3, 4), keepdim=True)
    rough = torch.lerp(middle, rough, per_clip(0.75, 1.2)) + per_clip(-0.08, 0.08, 3)
    for cell, most in ((1, 0.06), (4, 0.06), (8, 0.06)):
        side = size // cell
        noise = torch.randn(*pixels.shape[:3], side, side, generator=generator)
        noise = repeat(noise, "b f c h w -> b f c (h s) (w t)", s=cell, t=cell)
        rough = rough + noise * per_clip(0, most)
    return torch.where(per_clip(0, 1) < 0.25, pixels, rough.clamp(0, 1))


class JudgeTask:
    """What `training.engine.loop` needs to train the judge."""

    def __init__(self, module: Judge, data: LabelledClips, made_of: dict[str, Any]) -> None:
        self.name = "judge"
        self.module: nn.Module = module
        self.config, self.data, self.made_of = module.config, data, made_of
        self.targets = {a: torch.from_numpy(t) for a, t in data.labels.items()}

    def __len__(self) -> int:
        return len(self.data)

    def description(self) -> dict[str, Any]:
        return {"model": asdict(self.config), "films": self.made_of}

    def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
        rough = roughen(to_pixels(self.data.clips(indices.numpy())), generator)
        return Batch({"pixels": rough} | {a: self.targets[a][indices] for a in ASPECTS})

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The sum of the four cross-entropies on roughened clips."""
        logits = model(batch["pixels"])
        losses = {a: F.cross_entropy(logits[a], batch[a], label_smoothing=0.05) for a in ASPECTS}
        return torch.stack(list(losses.values())).sum(), {a: float(v.detach()) for a, v in losses.items()}


def accuracy(judge: Judge, clips: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, float]:
    """The share of clips uint8 (N, F, H, W, 3) rightly named, by aspect."""
    return {a: float((found == labels[a]).mean()) for a, found in judge.labels(clips).items()}


def accuracies(judge: Judge, data: LabelledClips, seed: int = 0) -> dict[str, dict[str, float]]:
    """Accuracy on clips of one shot, on the same clips roughened, and on clips that straddle a cut."""
    measured = {}
    for name, keep in (("whole", ~data.straddles), ("straddling", data.straddles)):
        if keep.any():
            clips, labels = data.clips(np.flatnonzero(keep)), {a: t[keep] for a, t in data.labels.items()}
            measured[name] = accuracy(judge, clips, labels)
            rough = roughen(to_pixels(clips), torch.Generator().manual_seed(seed))
            measured[f"{name}, roughened"] = accuracy(judge, to_clips(rough), labels)
    return measured


def train_judge(
    out: Path, num_films: int, loop: LoopConfig, config: JudgeConfig | None = None, seconds: float = 480
) -> dict[str, dict[str, float]]:
    """Draw films, train, save to `out` (config.json, model.safetensors, report.json) and return the report.

    The state of an interrupted training stays in ``out/training``; the same call resumes it. Deterministic from
    `loop.seed` on one machine with one number of threads.
    """
    config = config or JudgeConfig()
    seed = JUDGE_SEED + loop.seed
    names = [f"judge{i}" for i in range(num_films)]
    # Two thirds of a second apart: clips start at frames 0, 2, 4 of the TR alike.
    data = draw_clips(names, seed, seconds, config, stride=2)
    torch.manual_seed(loop.seed)
    made_of = {"seed": seed, "names": names, "seconds": seconds}
    judge = Judge(config)
    train(JudgeTask(judge, data, made_of), loop, out / "training")
    judge.eval()
    unseen = draw_clips(["judge-check0", "judge-check1"], seed, seconds, config, stride=config.num_frames)
    report = accuracies(judge, unseen)
    save_module(out, judge, config)
    write_json(out / "report.json", {"accuracy": report, "films": made_of, "loop": asdict(loop)})
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the judge's folder")
    parser.add_argument("--films", type=int, default=24, help="films of 8 minutes to learn from")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    loop = LoopConfig(steps=given.steps, batch_size=given.batch, lr=2e-3, weight_decay=0.02, seed=given.seed)
    report = train_judge(given.out, given.films, loop)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
