"""The whole report on a tiny dataset, checkpoint and judge: files, resuming, agreement with its parts, refusals."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny

from mindviz.checkpoint.folder import CheckpointInfo, write_checkpoint
from mindviz.checkpoint.subject import SubjectData
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.diffusion import LatentCodec, VideoUNet
from mindviz.diffusion.clip import ClipConfig, ClipModel
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.evaluate import methods
from mindviz.evaluate.measure import TOKENS
from mindviz.evaluate.setup import open_setup
from mindviz.metrics import classifiers, ssim
from mindviz.simulate.films import make_film
from mindviz.storage import load_arrays, save_arrays, save_module, write_json
from mindviz.types import MindvizError, SamplingSettings
from mindviz.video import write_mp4
from training.demo.judge import Judge, JudgeConfig
from training.studies import guidance
from training.studies import report as module
from training.studies.report import Evaluation, evaluate_demo, main

VOXELS = 24
VERTICES = np.arange(VOXELS) * 100
JUDGE = JudgeConfig(width=8, patch=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_dataset(folder):
    rng = np.random.default_rng(0)
    films = {name: make_film(name, 1, seconds=24, test=name == "test1") for name in ("seg1", "test1")}
    for name, film in films.items():
        write_mp4(folder / "stimuli" / f"{name}.mp4", film.clip, lossless=True)
        notes = {"captions": film.captions, "shots": [asdict(s) | {"held_out": s.held_out} for s in film.shots]}
        write_json(folder / "stimuli" / f"{name}.json", notes)
        bold = rng.normal(size=(12, VOXELS)).astype(np.float16)
        save_arrays(folder / "subject1" / f"{name}.safetensors", {"bold": bold, "vertices": VERTICES.astype(np.int32)})
    write_json(
        folder / "dataset.json",
        {
            "format": 1,
            "name": "tiny",
            "simulated": True,
            "mesh": "fsLR-32k",
            "tr": 2.0,
            "window": {"size": 2, "lag": 2},
            "fps": 3,
            "subjects": {"1": {"train": ["seg1"], "test": ["test1"]}},
            "stimuli": {name: {"frames": 72, "sha256": ""} for name in films},
        },
    )


def write_decoder(folder):
    torch.manual_seed(0)
    unet = replace(tiny.UNET, cross_attention_dim=16)
    vae = replace(tiny.VAE, sample_size=64)
    encoder = EncoderConfig(VOXELS, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_tokens=8, token_dim=16)
    data = SubjectData(np.zeros(VOXELS), np.ones(VOXELS), np.zeros((2, VOXELS)), VERTICES)
    sampling = SamplingSettings(num_inference_steps=2, guidance_scale=2.0)
    clip = ClipConfig(16, 64, 16, 16, 1, 8, context_length=8, text_width=16, text_layers=1, text_heads=2)
    write_checkpoint(
        folder,
        CheckpointInfo("tiny", 64, asdict(sampling), simulated=True, mesh="fsLR-32k", subjects=("1",)),
        VideoUNet(unet),
        LatentCodec.from_config(vae),
        {"_class_name": "DDIMScheduler", "num_train_timesteps": 100},
        {"1": FMRIEncoder(encoder)},
        {"1": data},
        clip=ClipModel(clip),
    )


@pytest.fixture(scope="module", autouse=True)
def small_classifier():
    """EfficientNet-lite0 at a quarter of its input size: only the use of its scores is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers.efficientnet, "__defaults__", (32, 32))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "data")
    write_decoder(folder / "checkpoint")
    torch.manual_seed(0)
    save_module(folder / "judge", Judge(JUDGE), JUDGE)
    return folder


def evaluation(world, out, **changes):
    given = {"permutations": 20, "ssim_shuffles": 1, "save_every": 2, "limit": 8}
    parts = {name: world / name for name in ("checkpoint", "data", "judge")}
    return Evaluation(**(parts | {"subject": "1", "out": out} | given | changes))


@pytest.fixture(scope="module")
def done(world):
    return evaluate_demo(evaluation(world, world / "done"))


CHEAP = {"decoded", "grey frame", "mean training video", "random training clip", "nearest training clip"}
CHEAP |= {"shuffled scans", "VAE alone"}
READ_OUT = ("read-out, encoder tokens", "read-out, ridge tokens", "ridge, same generator")


def rows(report, method="decoded", subset="all"):
    chosen = [r["score"] for r in report["rows"] if (r["method"], r["subset"]) == (method, subset)]
    return {(s["judge"], s["metric"]): s for s in chosen}


@pytest.mark.slow
def test_report_is_written_and_complete(world, done):
    written = json.loads((world / "done" / "report.json").read_text())
    assert written == json.loads(json.dumps(done))
    text = (world / "done" / "report.md").read_text()
    assert "SIMULATED" in text and "## true clips: all" in text
    measured = rows(done)
    for aspect in ("category", "object", "setting", "motion"):
        score = measured["judge", aspect]
        assert score["low"] <= score["value"] <= score["high"] and score["num_clips"] == 8
        assert 0 < score["p"] <= 1 and set(score["chance"]) == {"uniform", "prior", "majority"}
    judges = {judge for judge, _ in measured}
    assert {"CLIP of the checkpoint, pictures", "condition tokens against the caption's", "judge's features"} <= judges
    assert {r["method"] for r in done["rows"]} == CHEAP | {"true clips", "derived", *READ_OUT}
    assert "EfficientNet-lite0 (ImageNet-1k)" in judges and {m["missing"] for m in done["methods"]} == {None}


@pytest.mark.slow
def test_clips_equal_those_of_the_decoder(world, done):
    cached = load_arrays(world / "done" / "decoded.safetensors")
    dataset, decoder = Dataset.open(world / "data"), Decoder.load(world / "checkpoint")
    settings = SamplingSettings(num_inference_steps=2, guidance_scale=2.0, seed=5)
    decoded = decoder.decode(dataset.window("1", "test1", 5), settings, attention=False)
    assert (cached["clips"][5] == decoded.clip.frames).all()
    assert cached["tokens"][5] == pytest.approx(decoded.encoding.tokens, abs=1e-6)
    truth = np.stack([dataset.clip("test1", i).frames for i in range(8)])
    expected = ssim(cached["clips"], truth, "uniform").mean()
    assert rows(done)["formula", "SSIM (uniform window)"]["value"] == pytest.approx(expected)
    film = dataset.film("seg1").frames.astype(float)
    mean = np.rint(film.reshape(-1, 6, 64, 64, 3).mean(0)).astype(np.uint8)
    baseline = ssim(np.broadcast_to(mean, truth.shape), truth, "uniform").mean()
    assert rows(done, "mean training video")["formula", "SSIM (uniform window)"]["value"] == pytest.approx(baseline)


@pytest.mark.slow
def test_an_interrupted_run_continues(world, done, monkeypatch):
    decoded = []
    original = Decoder.decode

    def breaks_at_five(self, window, *args, **kwargs):
        decoded.append(window.index)
        if len(decoded) == 6:
            raise KeyboardInterrupt
        return original(self, window, *args, **kwargs)

    monkeypatch.setattr(Decoder, "decode", breaks_at_five)
    again = evaluation(world, world / "again")
    with pytest.raises(KeyboardInterrupt):
        evaluate_demo(again)
    assert not (world / "again" / "report.json").exists()
    report = evaluate_demo(again)
    assert decoded == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]  # the fifth had not been saved yet
    assert report["rows"] == done["rows"]


@pytest.mark.slow
def test_every_method_is_made_or_reported_as_missing(world, done, tmp_path):
    shutil.copytree(world / "done", tmp_path / "out")
    all_of_them = evaluation(world, tmp_path / "out", methods=("all",), permutations=5)
    report = evaluate_demo(all_of_them)
    missing = {m["slug"]: m["missing"] for m in report["methods"] if m["missing"]}
    assert missing == {"single": "the dataset holds no single repeats of the run"}
    decoded = load_arrays(tmp_path / "out" / "decoded.safetensors")
    decoder = Decoder.load(world / "checkpoint")
    settings = SamplingSettings(num_inference_steps=2, guidance_scale=2.0, seed=3)
    for slug in ("ridge", "untrained", "noise", "caption"):
        kept = load_arrays(tmp_path / "out" / f"{slug}.safetensors")
        assert kept["clips"].shape == decoded["clips"].shape and (kept["tokens"] != decoded["tokens"]).any()
        negative = decoder._tokens("1", np.zeros((2, VOXELS), np.float32))
        again = decoder.decode_tokens(kept["tokens"][3], negative, settings).frames
        assert (again == kept["clips"][3]).all(), slug
    scores = rows(report, "ridge, same generator")
    assert ("judge", "object") in scores and (TOKENS, "right clip of 8") in scores


@pytest.mark.slow
def test_other_settings_are_refused_in_the_same_folder(world, done):
    with pytest.raises(MindvizError, match=r"decoded\.json: expected clips decoded with settings"):
        evaluate_demo(evaluation(world, world / "done", sampling={"num_inference_steps": 3}))


def test_the_mean_training_video_needs_training_films(world, tmp_path):
    shutil.copytree(world / "data", tmp_path / "data")
    content = json.loads((tmp_path / "data" / "dataset.json").read_text())
    content["subjects"]["1"]["train"] = []
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(content))
    without = replace(evaluation(world, tmp_path / "out"), data=tmp_path / "data")
    setup = open_setup(without)
    for slug in ("mean", "random", "nearest"):
        assert methods._MAKERS[slug](setup, None) == methods.NO_TRAINING
    with pytest.raises(MindvizError, match="expected training runs of subject 1, found none"):
        open_setup(replace(without, training_data=tmp_path / "data"))
    assert open_setup(replace(without, training_data=world / "data")).training is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": "7"}, "subject"),
        ({"run": "test9"}, "test9"),
        ({"limit": 13}, "1 to 12"),
        ({"limit": 1}, "two shots"),
        ({"sampling": {"num_frames": 4}}, "like the true ones"),
        ({"methods": ("magic",)}, "expected all, or of decoded, .*, ridge, readout, found magic"),
        ({"vit": Path("nowhere")}, "nowhere: expected an image classifier"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(world, tmp_path, changes, message):
    with pytest.raises(MindvizError, match=message):
        evaluate_demo(evaluation(world, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_report_of_the_demo_world_needs_shots(world, tmp_path):
    shutil.copytree(world / "data", tmp_path / "data")
    notes = tmp_path / "data" / "stimuli" / "test1.json"
    notes.write_text('{"captions": []}')
    with pytest.raises(MindvizError, match=r"test1\.json: expected shots"):
        module.film_shots(Dataset.open(tmp_path / "data"), "test1")


@pytest.mark.slow
def test_the_command_line_passes_its_options_on(world, tmp_path, capsys):
    parts = {"checkpoint": world / "checkpoint", "data": world / "data", "judge": world / "judge", "out": tmp_path}
    options = [f"--{name}={path}" for name, path in parts.items()]
    sampling = ["--steps=1", "--seed=9", "--negative=run", "--sketch-guidance=3"]
    assert main([*options, "--subject=1", "--limit=8", "--permutations=5", *sampling]) == 0
    assert "category" in capsys.readouterr().out
    settings = json.loads((tmp_path / "decoded.json").read_text())["settings"]
    assert (settings["num_inference_steps"], settings["seed"], settings["guidance_scale"]) == (1, 9, 2.0)
    assert (settings["negative"], settings["sketch_guidance"]) == ("given", 3.0)


def test_tokens_for_the_read_out_come_from_a_file(tmp_path):
    tokens = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float16)
    save_arrays(tmp_path / "tokens.safetensors", {"tokens": tokens})
    assert (module._tokens(tmp_path / "tokens.safetensors") == tokens).all()
    save_arrays(tmp_path / "other.safetensors", {"clips": tokens})
    with pytest.raises(MindvizError, match=r"other\.safetensors: expected tokens .*, found clips"):
        module._tokens(tmp_path / "other.safetensors")


def test_the_command_line_reports_errors(world, tmp_path, capsys):
    parts = {"checkpoint": world / "checkpoint", "data": world / "data", "judge": tmp_path, "out": tmp_path / "out"}
    options = [f"--{name}={path}" for name, path in parts.items()]
    assert main([*options, "--subject=1"]) == 2
    error = capsys.readouterr().err
    assert "config.json" in error and "Traceback" not in error


# ---------------------------------------------------------------------- the guidance sweep
def test_guidance_is_swept_and_compared_with_the_checkpoints_default(world, tmp_path, monkeypatch):
    options = evaluation(world, tmp_path / "sweep")
    content = guidance.sweep(options, world / "judge")
    assert list(content["settings"]) == [s.name for s in guidance.SWEEP] and content["facts"]["SIMULATED"]
    scales = {name: one["sampling"]["guidance_scale"] for name, one in content["settings"].items()}
    assert (scales["no guidance"], scales["half"], scales[guidance.SHIPPED_SETTINGS], scales["twice"]) == (1, 1.5, 2, 3)
    scores = {name: {m: v["value"] for m, v in one["scores"].items()} for name, one in content["settings"].items()}
    for name, one in content["settings"].items():
        assert (one["difference"] is None) == (name == guidance.SHIPPED_SETTINGS)
        for measure, difference in (one["difference"] or {}).items():
            apart = scores[name][measure] - scores[guidance.SHIPPED_SETTINGS][measure]
            assert difference["value"] == pytest.approx(apart) and difference["low"] <= difference["high"]
    text = (tmp_path / "sweep" / "guidance.md").read_text()
    assert text == guidance.guidance_markdown(json.loads((tmp_path / "sweep" / "guidance.json").read_text()))
    assert all(f"| {name} |" in text for name in scores) and "simulated" in text

    # away from the mean of the run, as the decoder does when it is given
    setup = open_setup(options)
    settings = replace(setup.settings, negative="given", seed=setup.settings.seed + 2)
    own = setup.dataset.windows("1", "test1").mean(0)
    expected = setup.decoder.decode(setup.dataset.window("1", "test1", 2), settings, own, attention=False).clip.frames
    kept = load_arrays(tmp_path / "sweep" / "1_given" / "decoded.safetensors")["clips"]
    assert (kept[2] == expected).all()
    assert not (kept == load_arrays(tmp_path / "sweep" / "1_own" / "decoded.safetensors")["clips"]).all()

    def forbidden(*_, **__):
        raise AssertionError("a finished sweep decodes nothing")

    monkeypatch.setattr(Decoder, "decode", forbidden)
    assert guidance.sweep(options, world / "judge") == content


def test_a_sweep_for_an_unknown_subject_is_refused(world, tmp_path, capsys):
    parts = {name: world / name for name in ("checkpoint", "data", "judge")} | {"out": tmp_path / "out"}
    options = [f"--{name}={path}" for name, path in parts.items()]
    assert guidance.main([*options, "--subject=7"]) == 2
    assert "7" in capsys.readouterr().err and not (tmp_path / "out").exists()
