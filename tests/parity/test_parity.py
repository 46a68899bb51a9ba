"""Our models against the authors' (reference tensors) and against an independent functional oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.oracle import make_reference

from mindviz.decoder import Decoder
from mindviz.storage import fingerprint
from mindviz.types import MindvizError
from mindviz.verify import Comparison, import_checkpoint, passed, read_published, report, verify

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "parity" / "reference-a"
LEVELS3 = {
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
}
CASES = {
    "plain": ({}, {}, "pndm", 6, 5, 12.5),
    "ddim, head norm": ({"use_norm": True, "embed_dim": 24, "num_heads": 4}, {}, "ddim", 3, 4, 7.5),
    "one scan": ({"window_size": 1, "mlp_ratio": 2.0}, {}, "ddim", 2, 3, 2.0),
    "no window attention": ({"use_temp_attn": False, "depth": 4, "window_size": 3}, {}, "pndm", 1, 3, 3.0),
    "deeper, wider": (
        {"depth": 3, "window_size": 3, "out_channel": 7, "out_dim": 20, "patch_size": 8},
        LEVELS3 | {"cross_attention_dim": 20, "layers_per_block": 2, "attention_head_dim": 4},
        "pndm",
        4,
        7,
        5.0,
    ),
    "no guidance": ({}, {}, "ddim", 8, 2, 1.0),
}


@pytest.fixture(params=CASES, ids=str)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder made by the oracle."""
    return make_reference(tmp_path / "reference", *CASES[request.param], seed=3)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_reference(tmp_path / "reference", *CASES["plain"], seed=5)


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, part: str, change) -> None:
    path = folder / "checkpoint" / part / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize("folder", [HERE / "reference", SHARED], ids=["carried", "shared"])
def test_the_authors_tensors_are_reproduced(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    comparisons = verify(folder)
    named = {c.name for c in comparisons}
    assert named == {"fmri_embedding", "noise_pred", "video"} | {
        f"attn_{k}_{i}" for k in ("spatial", "temporal") for i in range(3)
    }
    assert passed(comparisons, 2e-5), report(comparisons)


def test_other_configurations_match_the_oracle_and_survive_import(made: Path, tmp_path: Path) -> None:
    comparisons = verify(made)
    assert passed(comparisons), report(comparisons)
    again = tmp_path / "again"
    import_checkpoint(made / "checkpoint", again / "checkpoint")
    for name in ("tensors.safetensors", "sampling.json"):
        shutil.copy(made / name, again / name)
    imported = verify(again)
    assert [c.name for c in imported] == [c.name for c in comparisons]
    assert passed(imported), report(imported)
    assert {p.suffix for p in (again / "checkpoint").rglob("*") if p.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("part", "name", "spoiled"),
    [
        ("fmri_encoder", "blocks.1.attn_temp.qkv.weight", {"fmri_embedding", "attn_temporal_1", "video"}),
        ("unet", "mid_block.attentions.0.transformer_blocks.0.attn_temp.to_out.0.weight", {"noise_pred", "video"}),
        ("vae", "decoder.mid_block.attentions.0.proj_attn.weight", {"video"}),
    ],
)
def test_one_changed_weight_fails(plain: Path, part: str, name: str, spoiled: set[str]) -> None:
    edit_weights(plain, part, lambda state: state[name].mul_(1.5))
    comparisons = verify(plain)
    assert not passed(comparisons)
    assert "ABOVE" in report(comparisons)
    assert {c.name for c in comparisons if c.error > 1e-4} == spoiled


def test_a_nan_error_never_passes() -> None:
    assert not passed([Comparison("video", float("nan"), 1.0)])
    assert not passed([])


def test_scheduler_of_the_sampling_settings_wins(plain: Path) -> None:
    edit_json(plain / "sampling.json", scheduler="ddim")
    errors = {c.name: c.error for c in verify(plain)}
    assert errors["video"] > 1e-4 > errors["noise_pred"]


# ---------------------------------------------------------------------- import
def test_import_keeps_provenance_and_refuses_an_existing_target(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    before = fingerprint(plain / "checkpoint")
    import_checkpoint(plain / "checkpoint", target)
    decoder = Decoder.load(target)
    provenance = decoder.info.provenance
    assert provenance["sha256"] == before == fingerprint(plain / "checkpoint")
    assert provenance["without_effect"]["unet"]["_diffusers_version"] == "0.16.1"
    published = json.loads((plain / "checkpoint/scheduler/scheduler_config.json").read_text())
    assert json.loads((target / "scheduler/config.json").read_text()) == published
    with pytest.raises(MindvizError, match="does not exist yet"):
        import_checkpoint(plain / "checkpoint", target)


def test_a_failed_import_leaves_nothing(plain: Path, tmp_path: Path) -> None:
    edit_weights(plain, "unet", lambda state: state.pop("conv_in.bias"))
    with pytest.raises(MindvizError, match=r"1 missing \['conv_in.bias'\]"):
        import_checkpoint(plain / "checkpoint", tmp_path / "new" / "ours")
    assert not (tmp_path / "new" / "ours").exists()


# ---------------------------------------------------------------------- bad input
def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_tensors(folder: Path, change) -> None:
    state = load_file(folder / "tensors.safetensors")
    change(state)
    save_file(state, folder / "tensors.safetensors")


def put(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, lambda state: state.update({name: change(state[name]).contiguous()}))


UNET, ENCODER = "checkpoint/unet/config.json", "checkpoint/fmri_encoder/config.json"
BIN = "checkpoint/unet/diffusion_pytorch_model.bin"
BAD = {
    "no weights": (lambda f: (f / BIN).unlink(), "diffusion_pytorch_model.bin: expected"),
    "truncated weights": (lambda f: truncate(f / BIN), "do not read as such"),
    "no config": (lambda f: (f / "checkpoint/vae/config.json").unlink(), "vae/config.json: expected a JSON file"),
    "no sampling": (lambda f: (f / "sampling.json").unlink(), "sampling.json: expected"),
    "truncated tensors": (lambda f: truncate(f / "tensors.safetensors"), "expected a whole safetensors file"),
    "missing tensor": (lambda f: edit_tensors(f, lambda s: s.pop("attn_spatial_0")), "attn_spatial_0"),
    "NaN": (lambda f: edit_tensors(f, lambda s: s["fmri"].fill_(torch.nan)), "expected finite values in fmri"),
    "unknown tensor": (lambda f: edit_tensors(f, lambda s: s.update(extra=torch.ones(1))), "found extra"),
    "voxels": (lambda f: edit_tensors(f, lambda s: s.update(fmri=torch.ones(2, 2, 95))), r"expected fmri of shape"),
    "wrong shape": (lambda f: edit_weights(f, "unet", lambda s: s["conv_in.bias"].resize_(3)), r"found \(3,\)"),
    "NaN weight": (lambda f: edit_weights(f, "vae", lambda s: s["quant_conv.bias"].fill_(torch.nan)), "finite value"),
    "no dimension": (put("fmri", lambda t: t.sum()), r"expected fmri of shape .*, found \(\)"),
    "flat": (put("fmri_negative", lambda t: t.flatten()), "expected fmri_negative of shape"),
    "no windows": (put("fmri", lambda t: t[:0]), "expected values in fmri, found none"),
    "tokens": (put("fmri_embedding", lambda t: t[..., :-1]), "expected fmri_embedding of shape"),
    "float64": (put("fmri", lambda t: t.double()), "expected fmri of float32, found torch.float64"),
    "whole numbers": (put("video", lambda t: t.int()), "expected video of float32, found torch.int32"),
    "timesteps": (put("timestep", lambda t: t[None]), r"timestep of shape \(\) or \(1,\) or \(2,\), found \(1, 2\)"),
    "noise": (put("noisy_latents", lambda t: t[0]), "expected noisy_latents of shape"),
    "attention": (put("attn_spatial_0", lambda t: t[0]), "expected attn_spatial_0 of shape"),
    "no heads": (lambda f: edit_json(f / ENCODER, num_heads=0), "encoder/config.json: expected values that make a"),
    "odd width": (lambda f: edit_json(f / ENCODER, embed_dim=9, num_heads=3), "encoder/config.json: embed_dim must be"),
    "noise schedule": (
        lambda f: edit_json(f / "checkpoint/scheduler/scheduler_config.json", beta_schedule="square"),
        "expected options of PNDMScheduler, found .*'beta_schedule': 'square'",
    ),
    "strange option": (lambda f: edit_json(f / UNET, gated_attention=2), "found gated_attention = 2"),
    "other option": (lambda f: edit_json(f / UNET, only_cross_attention=True), "only_cross_attention"),
    "widths": (lambda f: edit_json(f / UNET, cross_attention_dim=8), "attention_dim 12"),
    "type": (lambda f: edit_json(f / ENCODER, depth="2"), "expected depth to be int"),
    "schedule": (lambda f: edit_json(f / "sampling.json", scheduler="euler"), "found 'euler'"),
    "frames": (lambda f: edit_json(f / "sampling.json", video_length=9), "expected initial_latents of shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_named_in_one_sentence(plain: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(plain)
    with pytest.raises(MindvizError, match=message) as caught:
        verify(plain)
    assert "\n" not in str(caught.value)
    assert str(plain) in str(caught.value) or case in ("schedule", "noise schedule")


def test_harmless_keys_are_kept(plain: Path) -> None:
    edit_json(plain / "checkpoint/unet/config.json", _name_or_path="somewhere", encoder_hid_dim=None)
    parts = read_published(plain / "checkpoint")
    assert parts.without_effect["unet"]["_name_or_path"] == "somewhere"
    assert "encoder_hid_dim" in parts.without_effect["unet"]
