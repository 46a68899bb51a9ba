"""The decoder: a checkpoint folder on disk, from a window to a clip and a map, and every refusal."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny

from mindviz.attribution.attention import attention_map
from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
from mindviz.checkpoint.subject import SINGLE, SubjectData
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.diffusion import LatentCodec, VideoUNet, guided, initial_latents, make_scheduler, sample
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.storage import load_arrays, save_arrays, write_json
from mindviz.types import MindvizError, SamplingSettings, Window

VOXELS = 40
ENCODER = EncoderConfig(num_voxels=VOXELS, embed_dim=16, depth=2, num_heads=2, num_tokens=3, token_dim=8)
UNET = replace(tiny.UNET, sample_size=4, block_out_channels=(8, 8))
VAE = replace(tiny.VAE, block_out_channels=(8,), sample_size=32, patch_size=4)
SCHEDULE = {"_class_name": "DDIMScheduler", "clip_sample": False, "beta_schedule": "scaled_linear"}
SETTINGS = SamplingSettings(num_inference_steps=3, guidance_scale=3.0, seed=1, num_frames=2)
INFO = CheckpointInfo(
    name="tiny",
    image_size=16,
    sampling=asdict(SETTINGS),
    simulated=True,
    mesh="fsLR-32k",
    lag=2,
    subjects=("1", "2"),
)


def vertices(subject: str) -> np.ndarray:
    return np.arange(VOXELS) * 7 + int(subject)


def subject_data(subject: str) -> SubjectData:
    rng = np.random.default_rng(int(subject))
    draws = [rng.normal(size=shape).astype(np.float32) for shape in (VOXELS, (2, VOXELS))]
    return SubjectData(draws[0], np.full(VOXELS, 0.5, np.float32), draws[1], vertices(subject))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two subjects, and one of a single encoder beside it."""
    torch.manual_seed(0)
    folder, unet, codec = tmp_path_factory.mktemp("decoder"), VideoUNet(UNET), LatentCodec.from_config(VAE)
    for name, value in unet.named_parameters():  # zero where training starts; here it shall do something
        if ".attn_temp.to_out" in name:
            torch.nn.init.normal_(value, std=0.2)
    encoders, early = {s: FMRIEncoder(ENCODER) for s in INFO.subjects}, FMRIEncoder(ENCODER)
    data = {s: subject_data(s) for s in INFO.subjects}
    stages = {("1", "contrast"): early}
    for half in (False, True):
        target = folder / ("half" if half else "full")
        write_checkpoint(target, INFO, unet, codec, SCHEDULE, encoders, data, stages, half=half)
    single = replace(INFO, subjects=(), mesh="", lag=None, simulated=False)
    write_checkpoint(folder / "single", single, unet, codec, SCHEDULE, {SINGLE: encoders["1"]})
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    import shutil

    return Path(shutil.copytree(written / "full", tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def decoder(written: Path) -> Decoder:
    return Decoder.load(written / "full")


@pytest.fixture
def window() -> Window:
    bold = np.random.default_rng(5).normal(size=(2, VOXELS)).astype(np.float32)
    return Window(bold, subject="1", run="test1", index=3)


# ---------------------------------------------------------------------- the story
@torch.no_grad()
def test_a_decode_is_its_parts_in_order(decoder: Decoder, window: Window) -> None:
    calls: list[tuple[int, int]] = []
    decoded = decoder.decode(window, SETTINGS, callback=lambda step, total, _: calls.append((step, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]

    data, encoder = subject_data("1"), decoder.encoder("1")
    normalised = torch.from_numpy((window.bold - data.mean) / data.std)[None]
    tokens, negative = encoder(normalised), encoder(torch.from_numpy(data.negative)[None])
    assert np.allclose(decoded.encoding.tokens, tokens[0].numpy(), atol=1e-5)
    latents = initial_latents((1, 4, 2, 4, 4), seed=1)
    denoiser = guided(decoder.unet, tokens, negative, 3.0)
    pixels = decoder.codec.decode(sample(denoiser, make_scheduler(SCHEDULE), latents, 3))[0]
    expected = (pixels.permute(1, 2, 3, 0) * 255).round().numpy().astype(int)
    assert decoded.clip.frames.shape == (2, 16, 16, 3)
    assert np.abs(decoded.clip.frames.astype(int) - expected).max() <= 1
    assert set(decoded.timings) == {"encode", "sample", "vae"}
    assert decoded.provenance["simulated"] is True
    assert decoded.settings == SETTINGS


def test_scans_take_the_scale_of_their_own_run(decoder: Decoder, window: Window) -> None:
    data = subject_data("1")
    averaged = replace(window, bold=data.mean + 0.5 * (window.bold - data.mean), run_std=0.5 * data.std)
    assert np.allclose(decoder.encode(averaged).tokens, decoder.encode(window).tokens, atol=1e-5)
    assert not np.allclose(decoder.encode(replace(averaged, run_std=None)).tokens, decoder.encode(window).tokens)
    constant = data.std.copy()
    constant[3] = 0
    with pytest.raises(MindvizError, match=r"expected positive deviations of \d+ voxels, found .* 1 of them not"):
        decoder.encode(replace(window, run_std=constant))
    with pytest.raises(MindvizError, match=r"found shape \(2,\)"):
        decoder.encode(replace(window, run_std=np.ones(2, np.float32)))


def test_frames_can_share_their_noise(decoder: Decoder, window: Window) -> None:
    """All of it: a frame differs from its neighbour by what the temporal layers do alone."""
    apart, alike = (
        decoder.decode(window, replace(SETTINGS, shared_noise=s), attention=False).clip.frames.astype(int)
        for s in (0.0, 1.0)
    )
    assert np.abs(alike[1] - alike[0]).mean() < 0.5 * np.abs(apart[1] - apart[0]).mean()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**32}, {"shared_noise": 1.5}, {"shared_noise": -0.1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(MindvizError, match=f"{next(iter(wrong))} must be from 0 to .*, found"):
        SamplingSettings(**wrong)


def test_seeds_and_guidance_matter_and_repeat(decoder: Decoder, window: Window) -> None:
    first, again = decoder.decode(window), decoder.decode(window, SETTINGS, attention=False)
    assert np.array_equal(first.clip.frames, again.clip.frames)
    assert again.encoding.attention == ()
    for changes in ({"seed": 2}, {"guidance_scale": 1.0}, {"num_frames": 3}):
        other = decoder.decode(window, replace(SETTINGS, **changes)).clip.frames
        assert other.shape != first.clip.frames.shape or not np.array_equal(other, first.clip.frames)


def test_attention_becomes_one_value_per_voxel(decoder: Decoder, window: Window) -> None:
    encoding = decoder.encode(window)
    assert [layer.spatial.shape for layer in encoding.attention] == [(2, 2, 3, 3)] * 2
    assert encoding.attention[0].temporal.shape == (3, 2, 2, 2)
    chosen = attention_map(decoder, encoding, "1", layer=1, head=0)
    expected = encoding.attention[1].spatial[:, 0].mean(axis=(0, 1)) * 3
    assert np.allclose(chosen.values, np.repeat(expected, 16)[:VOXELS], atol=1e-5)
    assert (chosen.layer, chosen.head, chosen.stage, chosen.method) == (1, 0, "full", "received")


def test_stages(decoder: Decoder, window: Window) -> None:
    tokens = {stage: decoder.encode(window, False, stage).tokens for stage in ("full", "contrast", "untrained")}
    assert not np.allclose(tokens["full"], tokens["contrast"])
    assert np.array_equal(tokens["untrained"], Decoder.load(decoder.folder).encode(window, False, "untrained").tokens)
    with pytest.raises(MindvizError, match=r"mask/config\.json: expected a JSON file"):
        decoder.encode(window, stage="mask")


def test_a_given_negative_is_normalised_like_a_window(decoder: Decoder, window: Window) -> None:
    data, given = subject_data("1"), replace(SETTINGS, negative="given")
    same = decoder.decode(window, given, negative=data.negative * data.std + data.mean)
    assert np.abs(same.clip.frames.astype(int) - decoder.decode(window, SETTINGS).clip.frames).max() <= 1
    with pytest.raises(MindvizError, match="'given': expected the negative's scans"):
        decoder.decode(window, given)
    with pytest.raises(MindvizError, match="'training': expected no negative"):
        decoder.decode(window, SETTINGS, negative=data.negative)


def test_half_precision_decodes_nearly_the_same(written: Path, decoder: Decoder, window: Window) -> None:
    half = Decoder.load(written / "half")
    assert (written / "half/unet/model.safetensors").stat().st_size < 0.7 * (
        written / "full/unet/model.safetensors"
    ).stat().st_size
    assert np.allclose(half.encode(window).tokens, decoder.encode(window).tokens, atol=0.02)
    difference = half.decode(window).clip.frames.astype(int) - decoder.decode(window).clip.frames
    assert np.abs(difference).mean() < 3


def test_single_subject_checkpoints_need_a_negative(written: Path, window: Window) -> None:
    single = Decoder.load(written / "single")
    assert single.subjects == ()
    with pytest.raises(MindvizError, match="expected a stored training mean"):
        single.decode(window, SETTINGS)
    clip = single.decode(window, SETTINGS, negative=np.zeros((2, VOXELS))).clip
    assert clip.frames.shape == (2, 16, 16, 3)
    with pytest.raises(MindvizError, match="expected stored vertices"):
        single.vertices("1")


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bold": np.zeros((2, VOXELS + 1), np.float32)}, r"expected 2 scans of 40 voxels .* found \(2, 41\)"),
        ({"bold": np.zeros((3, VOXELS), np.float32)}, r"found \(3, 40\)"),
        ({"bold": np.full((2, VOXELS), np.nan, np.float32)}, "found NaN or infinity"),
        ({"subject": "9"}, "expected a subject of 1, 2, found '9'"),
    ],
)
def test_windows_that_do_not_fit(decoder: Decoder, window: Window, changes: dict, message: str) -> None:
    with pytest.raises(MindvizError, match=message):
        decoder.decode(replace(window, **changes))


def spoil_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def spoil_data(folder: Path) -> None:
    path = folder / "subject1/data.safetensors"
    save_arrays(path, load_arrays(path) | {"std": np.zeros(VOXELS, np.float32)})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


BAD = {
    "no folder": (lambda f: f.rename(f.parent / "elsewhere"), "expected a checkpoint folder, found nothing"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: expected a JSON file"),
    "format": (spoil_config, "expected format 1, found 2"),
    "no encoder": (
        lambda f: (f / "subject2/fmri_encoder/model.safetensors").unlink(),
        "an encoder's weights, found nothing",
    ),
    "no normaliser": (lambda f: (f / "subject1/data.safetensors").unlink(), "an encoder's normaliser, found nothing"),
    "truncated U-Net": (lambda f: truncate(f / "unet/model.safetensors"), "expected a whole safetensors file"),
    "truncated encoder": (lambda f: truncate(f / "subject1/fmri_encoder/model.safetensors"), "expected a whole"),
    "no scheduler": (lambda f: (f / "scheduler/config.json").unlink(), "scheduler/config.json: expected"),
    "std of zero": (spoil_data, "expected a std above 0, found 40 that are not"),
}


@pytest.mark.parametrize("case", BAD)
def test_spoilt_checkpoints(folder: Path, window: Window, case: str) -> None:
    spoil, message = BAD[case]
    spoil(folder)
    with pytest.raises(MindvizError, match=message) as caught:
        Decoder.load(folder).decode(window)
    assert str(folder) in str(caught.value)


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    target, codec = tmp_path / "c", LatentCodec.from_config(VAE)
    arguments = (target, INFO, VideoUNet(UNET), codec, SCHEDULE, {s: FMRIEncoder(ENCODER) for s in INFO.subjects})
    with pytest.raises(MindvizError, match="expected an encoder and data for each"):
        write_checkpoint(*arguments)
    wrong = {s: replace(subject_data(s), vertices=np.arange(3)) for s in INFO.subjects}
    with pytest.raises(MindvizError, match=r"expected vertices of shape \(40,\), found \(3,\)"):
        write_checkpoint(*arguments, wrong)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- datasets
def make_dataset(
    folder: Path, mesh: str = "fsLR-32k", size: int = 2, lag: int = 2, subject: str = "1", order: slice = slice(None)
) -> Dataset:
    content = {"format": 1, "name": "tiny", "simulated": True, "mesh": mesh, "tr": 2.0, "fps": 3, "stimuli": {}}
    content |= {"window": {"size": size, "lag": lag}, "subjects": {subject: {"train": [], "test": ["test1"]}}}
    write_json(folder / "dataset.json", content)
    bold = np.random.default_rng(0).normal(size=(10, VOXELS)).astype(np.float16)
    chosen = vertices(subject)[order].astype(np.int32)
    save_arrays(folder / f"subject{subject}/test1.safetensors", {"bold": bold[:, : len(chosen)], "vertices": chosen})
    return Dataset.open(folder)


def test_a_fitting_dataset_passes(decoder: Decoder, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    decoder.check(dataset)
    assert decoder.decode(dataset.window("1", "test1", 4)).clip.frames.shape == (2, 16, 16, 3)
    assert np.array_equal(decoder.vertices("1"), vertices("1"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": "fsaverage5"}, "expected the mesh fsLR-32k, found fsaverage5"),
        ({"size": 3}, "expected windows of 2 scans with lag 2, found 3 with lag 2"),
        ({"lag": 1}, "found 2 with lag 1"),
        ({"subject": "5"}, r"expected subjects of \('1', '2'\), found \('5',\)"),
        ({"order": slice(None, None, -1)}, "vertices in their order, found 40 that differ"),
        ({"order": slice(0, 30)}, "expected 40 voxels, found 30"),
    ],
)
def test_datasets_that_do_not_fit(decoder: Decoder, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(MindvizError, match=message):
        decoder.check(make_dataset(tmp_path, **changes))
