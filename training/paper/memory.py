"""What the paper's stages cost at full size: parameters, memory of one step, and the batch that fits a GPU.

Nothing here holds a weight: models and batches are fake tensors (`FakeTensorMode`), which have shapes and no storage.
A dispatch mode adds up what a real run would hold at every moment of one forward and backward pass, so activations,
gradients, half-precision copies of weights and temporary results are counted, not estimated. Left out are workspaces
inside single operations and what the allocator loses to fragments; `HEADROOM` stands for these and for CUDA itself.
"""

from __future__ import annotations

import functools
import json
import resource
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mindviz.diffusion import LatentCodec, VideoUNet, build_unet2d
from mindviz.encoder import ContrastiveConfig, ContrastiveHead, FMRIEncoder, MaskedAutoencoder
from mindviz.storage import empty
from mindviz.types import MindvizError
from training.engine.recompute import set_checkpointing
from training.paper.recipe import PAPER, SD15_UNET, SD15_VAE, Epochs
from training.stages.inflate import freeze_all_but_attention

GIB = 2.0**30
HEADROOM = 1.5 * GIB
LARGEST_BATCH = 4096
FRAMES, LATENT_SIDE = 6, 32  # 256 x 256 pixels


# ---------------------------------------------------------------------- measuring
class LiveBytes(TorchDispatchMode):
    """The bytes of all storages but those of `module` that are alive: `now`, and their `peak`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        own = [*module.parameters(), *module.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in own}

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._track(leaf)
        return out


def _norms_in_float32(module: nn.Module) -> None:
    """Norms work in float32 under CUDA's autocast, whose rules differ here from those of the CPU that is imitated."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            part.forward = functools.partial(_upcast, part.forward)  # type: ignore[method-assign]


def _upcast(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return forward(x.float())


@dataclass(frozen=True)
class Stage:
    """One stage of training: its batch in the recipe, its model, and its loss on a made-up batch of a size."""

    name: str
    batch: int
    build: Callable[[], nn.Module]
    loss: Callable[[Any, int], Tensor]


@dataclass(frozen=True)
class Cost:
    """Bytes of one step with AdamW: float32 weights, their trained part, and what forward and backward hold beside.

    `saved` is held between forward and backward; `peak` is the most at any moment, gradients included.
    """

    stage: str
    precision: str
    checkpointing: bool
    batch: int
    weights: int
    trained: int
    saved: int
    peak: int

    @property
    def optimizer(self) -> int:
        """AdamW's two averages of each trained number."""
        return 2 * self.trained

    @property
    def total(self) -> int:
        """All of one step, without `HEADROOM` and without averaged weights (which would add `weights` once more)."""
        return self.weights + self.optimizer + max(self.peak, self.trained)


@functools.cache
def measured_cost(stage: Stage, batch: int, precision: str = "bf16", checkpointing: bool = False) -> Cost:
    """Count the memory of one step of a stage; takes seconds and next to no memory."""
    with FakeTensorMode():
        module = stage.build().train()
        if precision == "bf16":
            _norms_in_float32(module)
        if checkpointing:
            set_checkpointing(module)
        live = LiveBytes(module)
        with live, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = stage.loss(module, batch)
            saved = live.now
        with live:
            loss.backward()
        sizes = [(p.numel() * 4, p.requires_grad) for p in module.parameters()]
    weights, trained = sum(n for n, _ in sizes), sum(n for n, needed in sizes if needed)
    return Cost(stage.name, precision, checkpointing, batch, weights, trained, saved, live.peak)


def largest_batch(stage: Stage, budget: float, precision: str, checkpointing: bool) -> Cost | None:
    """The largest batch of one forward and backward pass that fits `budget` bytes; None where not one sample does."""

    def cost(batch: int) -> Cost:
        return measured_cost(stage, batch, precision, checkpointing)

    one, some = cost(1), cost(stage.batch)
    if one.total > budget:
        return None
    slope = max(1.0, (some.total - one.total) / (stage.batch - 1))
    found = cost(min(LARGEST_BATCH, 1 + int((budget - one.total) / slope)))
    while found.total > budget:  # a peak is not quite a line
        found = cost(found.batch - max(1, found.batch // 50))
    return found


# ---------------------------------------------------------------------- the paper's stages
def _mask_loss(model: MaskedAutoencoder, batch: int) -> Tensor:
    """`MaskedAutoencoder.forward`, scored on all patches, since a fake tensor cannot be indexed by a mask."""
    padded = model.patching.pad(torch.randn(batch, model.config.encoder.num_voxels))
    visible = torch.rand(batch, model.patching.num_patches).argsort(dim=1)[:, model.num_hidden :]
    prediction = model.reconstruct(model.encode_visible(padded, visible), visible)
    return (prediction.float() - padded.view_as(prediction)).square().mean()


def _window(batch: int) -> Tensor:
    return torch.randn(batch, PAPER.encoder.window_size, PAPER.encoder.num_voxels)


def _contrast_loss(model: nn.ModuleDict, batch: int) -> Tensor:
    image, text = torch.randn(2, batch, 768)
    head: Any = model["head"]
    return head.loss(model["encoder"](_window(batch)), image, text)


def _video_loss(unet: nn.Module, tokens: Tensor) -> Tensor:
    batch = len(tokens)
    latents = torch.randn(batch, SD15_UNET.in_channels, FRAMES, LATENT_SIDE, LATENT_SIDE)
    return functional.mse_loss(unet(latents, torch.zeros(batch), tokens).float(), torch.randn_like(latents))


def _inflate_loss(unet: VideoUNet, batch: int) -> Tensor:
    return _video_loss(unet, torch.randn(batch, PAPER.encoder.num_tokens, PAPER.encoder.token_dim))


def _cotrain_loss(model: nn.ModuleDict, batch: int) -> Tensor:
    encoder = model["encoder"]
    dropped = torch.rand(batch, 1, 1) < 0.1
    return _video_loss(model["unet"], torch.where(dropped, encoder(_window(1)), encoder(_window(batch))))


def _video_model() -> VideoUNet:
    unet = VideoUNet(SD15_UNET)
    freeze_all_but_attention(unet)
    return unet


def _batch(plan: object) -> int:
    assert isinstance(plan, Epochs)
    return plan.batch_size


def _encoder() -> FMRIEncoder:
    return FMRIEncoder(PAPER.encoder)


COSTED_STAGES = {
    stage.name: stage
    for stage in (
        Stage("mask", _batch(PAPER.mask), lambda: MaskedAutoencoder(PAPER.masked), _mask_loss),
        Stage(
            "contrast",
            _batch(PAPER.contrast),
            lambda: nn.ModuleDict({"encoder": _encoder(), "head": ContrastiveHead(ContrastiveConfig())}),
            _contrast_loss,
        ),
        Stage("inflate", _batch(PAPER.inflate), _video_model, _inflate_loss),
        Stage(
            "cotrain",
            _batch(PAPER.cotrain),
            lambda: nn.ModuleDict({"encoder": _encoder(), "unet": _video_model()}),
            _cotrain_loss,
        ),
    )
}


def parameter_counts() -> dict[str, int]:
    """Parameters of every model at full size, built on the meta device."""

    def count(make: Callable[[], nn.Module], trained: bool = False) -> int:
        return sum(p.numel() for p in empty(make).parameters() if p.requires_grad or not trained)

    return {
        "fMRI encoder (24 x 1024, 6,016 voxels)": count(_encoder),
        "masked autoencoder": count(lambda: MaskedAutoencoder(PAPER.masked)),
        "contrastive head": count(lambda: ContrastiveHead(ContrastiveConfig())),
        "U-Net of Stable Diffusion 1.5": count(lambda: build_unet2d(SD15_UNET)),
        "the same, inflated": count(lambda: VideoUNet(SD15_UNET)),
        "of these trained (attention)": count(_video_model, trained=True),
        "VAE of Stable Diffusion 1.5": count(lambda: LatentCodec.from_config(SD15_VAE)),
    }


# ---------------------------------------------------------------------- the report
def costs() -> list[Cost]:
    """Each stage at batch 1 and at the recipe's batch, in both precisions, with and without checkpointing."""
    return [
        measured_cost(stage, batch, precision, checkpointing)
        for stage in COSTED_STAGES.values()
        for precision in ("float32", "bf16")
        for checkpointing in (False, True)
        for batch in (1, stage.batch)
    ]


def fits(gpu: float) -> list[dict[str, Any]]:
    """The largest batch of each stage on a GPU of `gpu` GiB, of which `HEADROOM` stays free."""
    rows = []
    for stage in COSTED_STAGES.values():
        for precision in ("float32", "bf16"):
            for checkpointing in (False, True):
                best = largest_batch(stage, gpu * GIB - HEADROOM, precision, checkpointing)
                row: dict[str, Any] = {"stage": stage.name, "precision": precision, "checkpointing": checkpointing}
                rows.append(row | {"batch": best.batch if best else 0, "gib": best.total / GIB if best else None})
    return rows


def as_json(gpu: float) -> str:
    rows = [asdict(c) | {"optimizer": c.optimizer, "total": c.total} for c in costs()]
    content = {"parameters": parameter_counts(), "bytes_of_a_step": rows, "gpu_gib": gpu, "largest_batch": fits(gpu)}
    return json.dumps(content, indent=1)


def as_tables(gpu: float) -> str:
    """Markdown."""
    lines = ["| model | parameters |", "| --- | --- |"]
    lines += [f"| {name} | {n / 1e6:,.1f} M |" for name, n in parameter_counts().items()]
    lines += [
        "",
        "| stage | precision | checkpointing | batch | weights | gradients | AdamW | held for backward | step |",
    ]
    lines += ["| --- " * 9 + "|"]
    for c in costs():
        sizes = (c.weights, c.trained, c.optimizer, c.saved, c.total)
        figures = " | ".join(f"{n / GIB:.1f}" for n in sizes)
        lines.append(f"| {c.stage} | {c.precision} | {_said(c.checkpointing)} | {c.batch} | {figures} |")
    lines += ["", f"| largest batch in {gpu:g} GiB | float32 | with checkpointing | bf16 | with checkpointing |"]
    lines += ["| --- " * 5 + "|"]
    found = {(r["stage"], r["precision"], r["checkpointing"]): r["batch"] for r in fits(gpu)}
    for name in COSTED_STAGES:
        cells = [str(found[name, p, c] or "none") for p in ("float32", "bf16") for c in (False, True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _said(yes: bool) -> str:
    return "yes" if yes else "no"


# ---------------------------------------------------------------------- the real thing, on this machine
_REAL = {
    "encoder": Stage("encoder", 1, _encoder, lambda model, batch: model(_window(batch)).square().mean()),
    "masked": COSTED_STAGES["mask"],
    "unet": COSTED_STAGES["inflate"],
}


def real_run(name: str, batch: int, checkpointing: bool) -> str:
    """One forward and backward pass of random weights in float32, with seconds and peak memory.

    Raises
    ------
    MindvizError
        What the pass is counted to need is not free, with 3 GiB to spare.
    """
    stage = _REAL[name]
    counted = measured_cost(stage, batch, "float32", checkpointing)
    needed, free = counted.weights + counted.peak + 3 * GIB, _free_bytes()
    if free < needed:
        raise MindvizError(f"one pass of {name} needs {needed / GIB:.1f} GiB, found {free / GIB:.1f} GiB free")
    torch.manual_seed(0)
    before = _resident()
    module = stage.build().train()
    if checkpointing:
        set_checkpointing(module)
    start, cpu = time.perf_counter(), time.process_time()
    loss = stage.loss(module, batch)
    middle = time.perf_counter()
    loss.backward()
    end = time.perf_counter()
    report = {
        "model": name,
        "batch": batch,
        "checkpointing": checkpointing,
        "threads": torch.get_num_threads(),
        "forward_seconds": round(middle - start, 1),
        "backward_seconds": round(end - middle, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_gib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / GIB, 2),
        "counted_gib": round((counted.weights + counted.peak) / GIB, 2),
        "gradients_finite": all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None),
    }
    return json.dumps(report, indent=1)


def _free_bytes() -> int:
    """Memory that programs can still have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _resident() -> int:
    """Memory of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
