"""Every stage on somebody's own data: real classes in Stable Diffusion's layout, at tiny sizes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from torch.nn import functional

from mindviz.data.arrays import ScanArrays
from mindviz.decoder import Decoder
from mindviz.diffusion import VideoUNet, build_unet2d, build_vae
from mindviz.diffusion.pretrained import StableDiffusion
from mindviz.encoder import EncoderConfig, MaskedConfig
from mindviz.storage import load_arrays, load_tensors, save_arrays
from mindviz.types import MindvizError
from training import stage
from training.data.pretrained import CheckpointParts, film_latents, open_parts
from training.paper.recipe import PAPER, SD15_SCHEDULE, Epochs
from training.stages.denoising import denoising_loss

ENCODER = EncoderConfig(num_voxels=1, embed_dim=16, depth=2, num_heads=2, num_tokens=1, token_dim=2)
PLAN = Epochs(epochs=1, batch_size=4, lr=1e-3, weight_decay=0.05, warmup_epochs=0.5, mixed_precision="no")
TINY = replace(
    PAPER,
    encoder=ENCODER,
    masked=MaskedConfig(ENCODER, decoder_dim=16, decoder_depth=1, decoder_heads=2),
    mask=PLAN,
    mask_subject=PLAN,
    contrast=PLAN,
    inflate=replace(PLAN, batch_size=2),
    cotrain=replace(PLAN, batch_size=2),
    image_size=16,
)


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stage.RECIPES, "tiny", TINY)


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset with its run to train on."""
    home = tmp_path_factory.mktemp("own") / "dataset"
    shutil.copytree(tiny_dataset, home, ignore=shutil.ignore_patterns("checkpoint"))
    for path in [*home.rglob("test1.*")]:
        path.rename(path.with_stem("train1"))
    content = json.loads((home / "dataset.json").read_text())
    content["subjects"] = {s: {"train": ["train1"], "test": []} for s in content["subjects"]}
    content["stimuli"] = {"train1": content["stimuli"]["test1"]}
    (home / "dataset.json").write_text(json.dumps(content))
    return home


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of four people, one in each kind of file, raw and of another level for each."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    scans = [1000 * i + (i + 1) * rng.standard_normal((7 + i, 50)).astype(np.float32) for i in range(4)]
    np.save(folder / "a.npy", scans[0])
    np.savez(folder / "b.npz", bold=scans[1], tr=np.float32(0.72))
    np.savez_compressed(folder / "c.npz", scans[2])
    from mindviz.storage import save_arrays

    (folder / "more").mkdir()
    save_arrays(folder / "more" / "d.safetensors", {"other": np.zeros(3), "bold": scans[3]})
    return folder


def _save_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer with single characters for words."""
    characters = [chr(c) for c in range(33, 127)]
    words = [*characters, *(f"{c}</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    from transformers import CLIPTokenizer

    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=6).save_pretrained(folder)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models in the layout of Stable Diffusion 1.5."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    build_unet2d(tiny.UNET).save_pretrained(folder / "unet")
    vae = replace(
        tiny.VAE,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        patch_size=1,
        scaling_factor=0.18215,
    )
    build_vae(vae).save_pretrained(folder / "vae")
    text = CLIPTextConfig(
        vocab_size=190,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    _save_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SD15_SCHEDULE))
    return folder


@pytest.fixture(scope="module")
def clip(sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of transformers."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip") / "clip"
    shutil.copytree(sd / "tokenizer", folder)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 190, "max_position_embeddings": 6, "bos_token_id": 188, "eos_token_id": 189}
    config = CLIPConfig(
        text_config=size | text, vision_config=size | {"image_size": 16, "patch_size": 8}, projection_dim=6
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    return folder


def run(name: str, *options: object) -> int:
    return stage.main(arguments=[name, "--recipe", "tiny", "--save-every", "1", *map(str, options)])


# ---------------------------------------------------------------------- unlabelled scans
def test_arrays_of_every_kind_are_drawn_as_z_scores(people: Path, tmp_path: Path) -> None:
    arrays = ScanArrays.open(people, tmp_path)
    assert len(arrays) == 7 + 8 + 9 + 10 and arrays.num_voxels == 50
    everything = arrays.scans(np.arange(len(arrays)))
    for first, last in ((0, 7), (7, 15), (15, 24), (24, 34)):
        np.testing.assert_allclose(everything[first:last].mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(everything[first:last].std(0), 1, atol=1e-3)
    drawn = np.array([33, 0, 15, 0])
    assert np.array_equal(arrays.scans(drawn), everything[drawn])
    rare = ScanArrays.open(people, tmp_path, every=4)
    assert len(rare) == 2 + 2 + 3 + 3
    assert np.array_equal(rare.scans(np.arange(10)), everything[[0, 4, 7, 11, 15, 19, 23, 24, 28, 32]])
    assert rare.fingerprint != arrays.fingerprint == ScanArrays.open(people, tmp_path).fingerprint


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("z.npy", np.zeros((5, 49)), "z.npy: expected 50 voxels as in a.npy, found 49"),
        ("z.npy", np.zeros(50), r"z.npy: expected scans of shape \(time, voxels\), found \(50,\)"),
        ("z.npy", np.full((5, 50), np.nan), "z.npy: expected finite values, found NaN or infinity in 50 of 50"),
        ("z.npy", np.ones((5, 50)), "z.npy: expected voxels that vary over time, found none of 50"),
        ("z.npy", np.array([[None] * 50]), "z.npy: expected a whole array"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    people: Path, tmp_path: Path, name: str, array: object, message: str
) -> None:
    shutil.copytree(people, tmp_path / "people")
    np.save(tmp_path / "people" / name, array)
    with pytest.raises(MindvizError, match=message):
        ScanArrays.open(tmp_path / "people", tmp_path / "cache")


def test_broken_and_ambiguous_files_are_refused(people: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes((people / "a.npy").read_bytes()[:-40])
    with pytest.raises(MindvizError, match=r"a\.npy: expected a whole array of numbers"):
        ScanArrays.open(tmp_path, tmp_path / "cache")
    (tmp_path / "a.npy").unlink()
    np.savez(tmp_path / "b.npz", one=np.zeros((2, 3)), two=np.zeros((2, 3)))
    with pytest.raises(MindvizError, match="expected an array 'bold', or one array alone, found one, two"):
        ScanArrays.open(tmp_path, tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MindvizError, match=r"empty: expected arrays \(.*\), found none"):
        ScanArrays.open(tmp_path / "empty", tmp_path / "cache")


# ---------------------------------------------------------------------- Stable Diffusion
def test_stable_diffusion_is_read_from_its_folder(sd: Path) -> None:
    parts = open_parts(str(sd))
    assert isinstance(parts, StableDiffusion)
    tokens = parts.text_tokens(["a red fox that is far too long", ""])
    assert tokens.shape == (2, 6, 8) and not torch.equal(tokens[0], tokens[1])
    ids = parts.tokenizer(["ab"], max_length=6, padding="max_length")["input_ids"][0]
    assert ids[0] == 188 and ids[3] == 189
    torch.testing.assert_close(
        parts.text_encoder(torch.tensor([ids])).last_hidden_state[0], parts.text_tokens(["ab"])[0]
    )
    assert parts.codec.scaling_factor == 0.18215 and parts.codec.config.patch_size == 1
    assert parts.schedule["_class_name"] == "PNDMScheduler"
    inflated = VideoUNet.inflate(parts.unet)
    assert inflated.config == tiny.UNET


def test_a_missing_or_broken_stable_diffusion_is_refused(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match=r"\./nowhere: expected a Stable Diffusion folder or owner/name on the hub"):
        StableDiffusion("./nowhere")
    with pytest.raises(MindvizError, match=r"config\.json: expected the unet of a Stable Diffusion 1 pipeline, found"):
        StableDiffusion(str(tmp_path))
    with pytest.raises(MindvizError, match="nobody/nothing: expected the unet"):
        _ = StableDiffusion("nobody/nothing").unet
    copy = tmp_path / "sd"
    shutil.copytree(sd, copy)
    for weights in (copy / "vae").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(MindvizError, match="expected the vae of a Stable Diffusion 1 pipeline that reads"):
        _ = StableDiffusion(str(copy)).codec


def test_film_latents_are_those_of_the_vae(sd: Path, dataset: Path, tmp_path: Path) -> None:
    from mindviz.data import Dataset

    data, parts = Dataset.open(dataset), open_parts(str(sd))
    made = [
        film_latents(parts, data, ("train1",), 16, False, tmp_path, torch.device("cpu")) for _ in range(2)
    ]  # made, then read
    assert torch.equal(made[0].latents, made[1].latents) and len(list(tmp_path.iterdir())) == 1
    corpus = made[0]
    frame = torch.tensor(data.film("train1").frames[31]).permute(2, 0, 1)[None].float() / 255
    small = functional.interpolate(frame, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(corpus.latents[31], parts.codec.encode(small[:, :, None])[0, :, 0], atol=1e-4, rtol=1e-4)
    caption = data.captions("train1", 5)[1]
    torch.testing.assert_close(
        corpus.tokens_of(torch.tensor(31)), parts.text_tokens([caption])[0], atol=1e-5, rtol=1e-4
    )
    answer = torch.randn_like(corpus.latents[:2])
    plain = functional.mse_loss(answer, corpus.latents[:2])
    torch.testing.assert_close(denoising_loss(answer, corpus.latents[:2], corpus.channel_weights), plain)
    assert len(corpus.clip_starts) == 72 - 5


def test_a_mindviz_checkpoint_gives_its_image_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from mindviz.diffusion.clip import ClipConfig, ClipModel
    from mindviz.storage import save_module

    shutil.copytree(tiny_checkpoint, tmp_path / "c")
    torch.manual_seed(0)
    clip = ClipModel(ClipConfig(8, 16, 8, 8, 1, 4, 6, 32, 1, 2))
    save_module(tmp_path / "c" / "clip", clip, clip.config)
    parts = open_parts(str(tmp_path / "c"))
    assert isinstance(parts, CheckpointParts)
    video = Decoder.load(tmp_path / "c").unet.eval()
    frame, tokens = torch.randn(1, 4, 1, 8, 8), torch.randn(1, 6, 32)
    inflated = VideoUNet.inflate(parts.unet).eval()
    with torch.inference_mode():  # the fixture's temporal attention still adds nothing
        torch.testing.assert_close(inflated(frame, 3, tokens), video(frame, 3, tokens))
    assert parts.text_tokens(["fox"]).shape == (1, 6, 32)


# ---------------------------------------------------------------------- the stages
def test_masked_modelling_goes_from_many_people_to_one(people: Path, dataset: Path, tmp_path: Path) -> None:
    assert run("mask", "--data", people, "--out", tmp_path / "people", "--every", "2") == 0
    assert (
        run("mask", "--data", dataset, "--subject", "1", "--out", tmp_path / "one", "--init", tmp_path / "people") == 0
    )
    many, one = (load_tensors(tmp_path / name / "model" / "model.safetensors") for name in ("people", "one"))
    assert many["pos_embed"].shape == (1, 5, 16) and one["pos_embed"].shape == (1, 21, 16)
    config = json.loads((tmp_path / "one" / "run.json").read_text())
    assert config["masked"]["mask_ratio"] == 0.75 and config["loop"]["steps"] == 3
    assert run("mask", "--data", dataset, "--subject", "1", "--out", tmp_path / "half", "--mask-ratio", "0.5") == 0
    assert json.loads((tmp_path / "half" / "run.json").read_text())["masked"]["mask_ratio"] == 0.5


@pytest.fixture(scope="module")
def trained(dataset: Path, sd: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four stages, two steps each."""
    out = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(stage.RECIPES, "tiny", TINY)
        for name, options in stages(dataset, sd, clip, out).items():
            assert run(name, "--out", out / name, *options) == 0, name
    return out


def stages(dataset: Path, sd: Path, clip: Path, out: Path) -> dict[str, list[object]]:
    common = ["--data", dataset, "--subject", "1", "--steps", "2", "--cache", out / "cache"]
    return {
        "mask": common,
        "contrast": [*common, "--sd", sd, "--clip", clip, "--init", out / "mask"],
        "inflate": [*common, "--sd", sd, "--gradient-checkpointing"],
        "cotrain": [*common, "--sd", sd, "--init", out / "contrast", "--video", out / "inflate"],
    }


@pytest.mark.parametrize("name", ["mask", "contrast", "cotrain"])
def test_an_encoder_made_for_other_voxels_of_equal_number_is_refused(
    name: str, trained: Path, dataset: Path, sd: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = "mask" if name == "mask" else {"contrast": "mask", "cotrain": "contrast"}[name]
    home = tmp_path / "begun"
    shutil.copytree(trained / begun, home)
    kept = load_arrays(home / "model" / "voxels.safetensors")["vertices"]
    save_arrays(home / "model" / "voxels.safetensors", {"vertices": kept[::-1].copy()})
    options = [*stages(dataset, sd, clip, trained)[name], "--init", home]
    assert run(name, "--out", tmp_path / "out", *options) == 2
    assert (
        f"expected the voxels of the checkpoint {home / 'model'}, found {len(kept)} others" in capsys.readouterr().err
    )
    assert not (tmp_path / "out" / "run.json").exists()


def test_the_last_stage_leaves_a_checkpoint_that_decodes(trained: Path, dataset: Path) -> None:
    from mindviz.data import Dataset
    from mindviz.types import SamplingSettings

    decoder, data = Decoder.load(trained / "cotrain" / "checkpoint"), Dataset.open(dataset)
    assert decoder.default_settings.guidance_scale == 12.5 and decoder.default_settings.num_inference_steps == 200
    decoded = decoder.decode(data.window("1", "train1", 3), SamplingSettings(2, 12.5))
    assert decoded.clip.frames.shape == (6, 16, 16, 3) and decoded.encoding.tokens.shape == (6, 8)


def test_each_stage_begins_where_the_one_before_ended(
    trained: Path, dataset: Path, sd: Path, clip: Path, tmp_path: Path
) -> None:
    """At a learning rate of 0 a stage hands on what it was given."""
    weights = {n: load_tensors(trained / n / "model" / "model.safetensors") for n in ("mask", "contrast", "inflate")}
    for name in ("contrast", "cotrain"):
        options = stages(dataset, sd, clip, trained)[name]
        assert run(name, "--out", tmp_path / name, *options, "--lr", "0") == 0
    encoder = load_tensors(tmp_path / "contrast" / "model" / "model.safetensors")
    shared = [name for name in weights["mask"] if name.startswith(("blocks.", "patch_embed.", "norm."))]
    assert len(shared) > 20 and all(torch.equal(encoder[name], weights["mask"][name]) for name in shared)
    unet = load_tensors(tmp_path / "cotrain" / "checkpoint" / "unet" / "model.safetensors")
    assert all(torch.equal(unet[name], value) for name, value in weights["inflate"].items())
    encoder = load_tensors(tmp_path / "cotrain" / "checkpoint" / "subject1" / "fmri_encoder" / "model.safetensors")
    assert all(torch.equal(encoder[name], value) for name, value in weights["contrast"].items())


@pytest.mark.parametrize("name", ["mask", "contrast", "inflate", "cotrain"])
def test_every_stage_resumes(
    name: str, trained: Path, dataset: Path, sd: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first step and called again, a stage ends with the weights of the run that never stopped."""
    from training.engine import recompute

    options, calls = stages(dataset, sd, clip, trained)[name], []
    loss = recompute.Recomputable.loss

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(recompute.Recomputable, "loss", broken)
    assert run(name, "--out", tmp_path, *options) == 130
    assert run(name, "--out", tmp_path, *options) == 0
    assert len(calls) == 3
    for path in [*(trained / name).glob("model/*.safetensors"), *(trained / name).glob("checkpoint/**/*.safetensors")]:
        again = load_tensors(tmp_path / path.relative_to(trained / name))
        assert all(torch.equal(value, again[key]) for key, value in load_tensors(path).items()), path


def test_what_is_missing_is_said_in_a_sentence(
    trained: Path, dataset: Path, sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--data", dataset, "--subject", "1", "--out", tmp_path / "out"]
    cases: dict[str, tuple[str, list[object]]] = {
        "nowhere: expected a folder of scans": ("mask", ["--data", tmp_path / "nowhere", "--out", tmp_path / "out"]),
        "expected --subject, found none": ("mask", ["--data", dataset, "--out", tmp_path / "out"]),
        "expected a subject of 1, 2, found '7'": ("mask", ["--data", dataset, "--subject", "7", "--out", tmp_path]),
        "expected the folder of an earlier stage, found nothing": ("mask", [*own, "--init", tmp_path / "none"]),
        "expected the model of a finished stage, found nothing": ("mask", [*own, "--init", dataset]),
        "expected --sd, found none": ("inflate", own),
        "expected a Stable Diffusion folder or owner/name": ("inflate", [*own, "--sd", tmp_path / "none"]),
        "expected --init, found none": ("cotrain", [*own, "--sd", sd]),
        "expected the configuration of a CLIP": ("contrast", [*own, "--sd", sd]),
        "was begun with": ("mask", [*own[:-1], trained / "mask", "--steps", "3"]),
        "mask_ratio must lie between 0 and 1": ("mask", [*own, "--mask-ratio", "1.5"]),
    }
    for message, (name, options) in cases.items():
        assert run(name, *options) == 2, message
        said = capsys.readouterr().err
        assert message in said and said.startswith(f"training.stage {name}: ") and said.count("\n") == 1, said
    (home := tmp_path / "uncaptioned").mkdir()
    shutil.copytree(dataset, home, dirs_exist_ok=True)
    (home / "stimuli" / "train1.json").write_text("{}")
    assert run("inflate", "--data", home, "--subject", "1", "--out", tmp_path / "out", "--sd", sd) == 2
    assert "train1.json: expected a caption for each of 72 frames, found 0" in capsys.readouterr().err
