"""The `paper` recipe, and what its stages are counted to cost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support import tiny

from mindviz.diffusion import VideoUNet
from mindviz.encoder import EncoderConfig, FMRIEncoder, MaskedAutoencoder, MaskedConfig, random_order
from mindviz.types import MindvizError
from training.demo.recipe import OWN_DATA
from training.engine.recompute import set_checkpointing
from training.paper import memory
from training.paper.recipe import PAPER, Epochs

ENCODER = EncoderConfig(num_voxels=1, embed_dim=16, depth=2, num_heads=2, num_tokens=1, token_dim=2)


# ---------------------------------------------------------------------- the recipe
def test_epochs_become_steps_from_the_size_of_the_data() -> None:
    assert isinstance(PAPER.mask, Epochs)
    loop = PAPER.mask.loop(340_000)
    assert (loop.steps, loop.warmup, loop.batch_size) == (500 * 3400, 40 * 3400, 100)
    assert (loop.lr, loop.weight_decay, loop.grad_clip) == (2.5e-4, 0.05, 0.8)
    assert PAPER.mask.loop(101).steps == 1000  # the last batch of an epoch counts as a step
    with pytest.raises(MindvizError, match="at least one sample, found 0"):
        PAPER.mask.loop(0)


def test_full_size_has_the_published_numbers_of_parameters() -> None:
    counts = memory.parameter_counts()
    assert counts["U-Net of Stable Diffusion 1.5"] == 859_520_964
    assert counts["VAE of Stable Diffusion 1.5"] == 83_653_863
    assert counts["the same, inflated"] > counts["U-Net of Stable Diffusion 1.5"]
    assert 240e6 < counts["fMRI encoder (24 x 1024, 6,016 voxels)"] < 260e6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask", "contrast", "inflate", "cotrain"])
def test_every_stage_of_the_recipe_fits_a_gpu_of_24_gb(name: str) -> None:
    plan = getattr(PAPER, name)
    cost = memory.measured_cost(
        memory.COSTED_STAGES[name], plan.batch_size, plan.mixed_precision, plan.gradient_checkpointing
    )
    assert cost.weights + 3 * cost.trained < cost.total < 24 * memory.GIB - memory.HEADROOM


def test_the_demo_recipe_is_the_demos() -> None:
    from training.demo.recipe import DEMO_STAGES

    own, demo = OWN_DATA.encoder_for(3008, 16, 128), DEMO_STAGES.encoder
    assert {f for f in vars(demo) if getattr(own, f) != getattr(demo, f)} == {"num_tokens"}  # no layout token
    mine, theirs = OWN_DATA.masked_for(100), DEMO_STAGES.mask_decoder
    assert {f for f in vars(mine) if getattr(mine, f) != getattr(theirs, f)} == {"encoder"}
    assert OWN_DATA.masked_for(100, 0.5).mask_ratio == 0.5


# ---------------------------------------------------------------------- memory
def test_counted_activations_are_those_that_autograd_saves() -> None:
    """An oracle: the bytes of the distinct tensors that saved-tensor hooks see in a real pass."""
    config = EncoderConfig(num_voxels=320, embed_dim=32, depth=2, num_heads=2, num_tokens=4, token_dim=8)
    windows = torch.randn(3, 2, 320)
    little = memory.Stage("little", 2, lambda: FMRIEncoder(config), lambda model, _: model(windows).square().mean())
    model, seen = little.build(), {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = little.loss(model, 3)
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), windows)}
    saved = sum(storage.nbytes() for key, storage in seen.items() if key not in own)
    little = replace(little, loss=lambda model, n: model(torch.randn(n, 2, 320)).square().mean())
    counted = memory.measured_cost(little, 3, "float32", False)
    extra = windows.nbytes + loss.nbytes
    assert saved <= counted.saved <= saved + extra + 4096
    assert counted.weights == 4 * sum(p.numel() for p in model.parameters())
    recomputed = memory.measured_cost(little, 3, "float32", True)
    assert recomputed.saved < 0.5 * counted.saved and recomputed.peak <= counted.peak
    assert memory.measured_cost(little, 3, "bf16", False).saved < counted.saved


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    config = EncoderConfig(num_voxels=320, embed_dim=32, depth=2, num_heads=2, num_tokens=4, token_dim=8)
    little = memory.Stage(
        "little", 4, lambda: FMRIEncoder(config), lambda model, n: model(torch.randn(n, 2, 320)).square().mean()
    )
    budget = memory.measured_cost(little, 20, "float32", False).total
    best = memory.largest_batch(little, budget, "float32", False)
    assert best is not None and 19 <= best.batch <= 20 and best.total <= budget
    assert memory.largest_batch(little, 1000, "float32", False) is None


def test_the_report_and_a_real_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from training.paper import __main__ as command

    config = EncoderConfig(num_voxels=64, embed_dim=16, depth=1, num_heads=2, num_tokens=4, token_dim=8)
    little = memory.Stage(
        "little", 2, lambda: FMRIEncoder(config), lambda model, n: model(torch.randn(n, 2, 64)).square().mean()
    )
    monkeypatch.setattr(memory, "COSTED_STAGES", {"little": little})
    monkeypatch.setattr(memory, "parameter_counts", lambda: {"a model": 1_500_000})
    monkeypatch.setattr(memory, "LARGEST_BATCH", 3)
    monkeypatch.setitem(memory._REAL, "encoder", little)
    monkeypatch.setattr("sys.argv", ["paper", "--json"])
    assert command.main() == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["batch"] for row in report["bytes_of_a_step"]} == {1, 2}
    assert [row["batch"] for row in report["largest_batch"]] == [3] * 4
    monkeypatch.setattr("sys.argv", ["paper"])
    assert command.main() == 0
    assert "| a model | 1.5 M |" in (tables := capsys.readouterr().out) and "| little | 3 | 3 | 3 | 3 |" in tables
    monkeypatch.setattr("sys.argv", ["paper", "--real", "encoder", "--batch-size", "2"])
    assert command.main() == 0 and json.loads(capsys.readouterr().out)["gradients_finite"]
    monkeypatch.setattr(memory, "_free_bytes", lambda: 2**30)
    assert command.main() == 2 and "found 1.0 GiB free" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["masked", "encoder", "video"])
def test_recomputing_blocks_changes_no_gradient(kind: str) -> None:
    torch.manual_seed(0)
    model: torch.nn.Module
    if kind == "video":
        model = VideoUNet(tiny.UNET)
        inputs = (torch.randn(1, 4, 3, 8, 8), torch.tensor([3]), torch.randn(1, 4, 8))
    elif kind == "encoder":
        model = FMRIEncoder(replace(ENCODER, num_voxels=64))
        inputs = (torch.randn(2, 2, 64),)
    else:
        model = MaskedAutoencoder(
            MaskedConfig(replace(ENCODER, num_voxels=64), decoder_dim=16, decoder_depth=1, decoder_heads=2)
        )
        inputs = (torch.randn(2, 64),)
    gradients = []
    for enable in (False, True, False):
        set_checkpointing(model, enable)
        order = (
            random_order(2, model.patching.num_patches, torch.Generator().manual_seed(1)) if kind == "masked" else None
        )
        more = () if order is None else (order,)
        out = model(*inputs, *more)
        (out.loss if kind == "masked" else out.square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
    for one, other, third in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert torch.equal(one, third)
