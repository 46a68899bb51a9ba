"""Training scans and what is published of a dataset."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mindviz.checkpoint.subject import SubjectData
from mindviz.data import Dataset
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.storage import save_arrays
from mindviz.types import MindvizError
from training.data.corpus import from_dataset
from training.data.scans import TrainingScans, load_scans
from training.demo.publish import explained, publish_data, scaled_codec


@pytest.fixture
def folder(tmp_path: Path, tiny_dataset: Path) -> Path:
    """The tiny dataset, whose run of either subject counts as training run too (film and scans copied as seg1)."""
    home = tmp_path / "d"
    shutil.copytree(tiny_dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    for suffix in (".mp4", ".json"):
        (home / "stimuli" / f"seg1{suffix}").write_bytes((home / "stimuli" / f"test1{suffix}").read_bytes())
    content = json.loads((home / "dataset.json").read_text())
    content["stimuli"]["seg1"] = content["stimuli"]["test1"]
    for subject, splits in content["subjects"].items():
        splits["train"] = ["seg1"]
        run = home / f"subject{subject}" / "test1.safetensors"
        run.with_name("seg1.safetensors").write_bytes(run.read_bytes())
    (home / "dataset.json").write_text(json.dumps(content))
    return home


def test_training_windows_are_normalised_and_whole(folder: Path) -> None:
    dataset = Dataset.open(folder)
    scans = load_scans(dataset, "1")
    assert scans.windows.shape == (9, 2, 320)  # 12 clips, of which the last three reach past the end
    assert scans.first_frame.tolist() == list(range(0, 54, 6))
    torch.testing.assert_close(scans.windows.mean((0, 1)), torch.zeros(320), atol=1e-5, rtol=0)
    torch.testing.assert_close(scans.windows.std((0, 1), correction=0), torch.ones(320), atol=1e-4, rtol=0)
    raw = dataset.window("1", "seg1", 4).bold
    torch.testing.assert_close(scans.windows[4], torch.from_numpy((raw - scans.data.mean) / scans.data.std))
    np.testing.assert_allclose(scans.data.negative, scans.windows.mean(0).numpy())


def test_the_corpus_is_what_was_shown(folder: Path) -> None:
    dataset = Dataset.open(folder)
    corpus = from_dataset(dataset, ("seg1",), quiet=True)
    assert np.array_equal(corpus.frames, dataset.film("seg1").frames)
    assert corpus.captions[12] == "square 1 moves <right>" and len(corpus.vocabulary) == 6


def test_a_constant_voxel_is_refused(folder: Path) -> None:
    run = Dataset.open(folder).run("1", "seg1")
    bold = run.bold.astype(np.float16)
    bold[:, 7] = 0.5
    save_arrays(folder / "subject1" / "seg1.safetensors", {"bold": bold, "vertices": run.vertices.astype(np.int32)})
    with pytest.raises(MindvizError, match=r"subject1/seg1|subject 1: expected voxels that vary .* found 1 constant"):
        load_scans(Dataset.open(folder), "1")


def test_a_run_that_does_not_fit_its_film_is_refused(folder: Path) -> None:
    run = Dataset.open(folder).run("1", "seg1")
    arrays = {"bold": run.bold[:8].astype(np.float16), "vertices": run.vertices.astype(np.int32)}
    save_arrays(folder / "subject1" / "seg1.safetensors", arrays)
    with pytest.raises(MindvizError, match=r"seg1 of subject 1: expected .*12.*found 8"):
        load_scans(Dataset.open(folder), "1")


def test_published_data_hold_the_test_run_and_no_training_run(folder: Path, tmp_path: Path) -> None:
    before = Dataset.open(folder)
    count = before.run("1", "test1").bold.shape[1]
    voxels = np.stack(np.unravel_index(np.arange(count), (91, 109, 91)), 1).astype(np.int32)
    image = {"voxels": voxels, "shape": np.array([91, 109, 91], np.int32), "affine": np.eye(4)}
    save_arrays(folder / "subject1" / "volume.safetensors", image)
    published = Dataset.open(publish_data(before, tmp_path / "published"))
    assert published.runs("1", "train") == () and published.runs("1", "test") == ("test1",)
    assert np.array_equal(published.volume("1").voxels, voxels), "where scans of images lie goes with them"
    assert np.array_equal(published.run("2", "test1").bold, before.run("2", "test1").bold)
    assert published.captions("test1", 3) == before.captions("test1", 3)
    assert not list((tmp_path / "published").rglob("seg1*"))


def test_a_scaled_codec_gives_scaled_latents_and_the_same_pixels() -> None:
    from mindviz.diffusion import LatentCodec, VAEConfig

    torch.manual_seed(0)
    codec = LatentCodec.from_config(
        VAEConfig(block_out_channels=(16,), norm_num_groups=4, patch_size=4, scaling_factor=1.0)
    ).eval()
    twin = scaled_codec(codec, 2.5).eval()
    pixels = torch.rand(1, 3, 2, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(twin.encode(pixels), 2.5 * codec.encode(pixels))
        torch.testing.assert_close(twin.decode(twin.encode(pixels)), codec.decode(codec.encode(pixels)))
    assert twin.config == replace(codec.config, scaling_factor=2.5)


def test_what_is_published_of_each_voxel_is_what_the_tokens_explain() -> None:
    """Five voxels, and one that never changes, over 60 windows; beside least squares."""
    torch.manual_seed(0)
    encoder = FMRIEncoder(
        EncoderConfig(num_voxels=6, patch_size=2, embed_dim=8, depth=1, num_heads=2, num_tokens=2, token_dim=4)
    )
    windows = torch.randn(60, 2, 6)
    windows[:, :, 5] = 1.0
    data = SubjectData(np.zeros(6), np.ones(6), windows.mean(0).numpy(), np.arange(6))
    found = explained(encoder, TrainingScans("1", windows, torch.arange(60) * 6, 6, data))
    with torch.no_grad():
        tokens = encoder.eval()(windows).flatten(1).double().numpy()
    codes = np.linalg.svd(tokens - tokens.mean(0), full_matrices=False)[0][:, :8]
    flat = windows.flatten(1).double().numpy()
    flat = flat - flat.mean(0)
    left = np.square(flat - codes @ (codes.T @ flat)).sum(0)
    share = 1 - left / np.maximum(np.square(flat).sum(0), 1e-12) * 59 / (59 - 8)
    expected = np.where(np.square(flat).sum(0) > 0, np.maximum(share, 0), 0).reshape(2, 6)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert data.check(encoder.config, "here") is data
    wrong = replace(data, explained=found[:, :5])
    with pytest.raises(MindvizError, match=r"here: expected explained of shape \(2, 6\), found \(2, 5\)"):
        wrong.check(encoder.config, "here")
