"""Ablations, through the real demo's stages at tiny sizes, on scans in which the shots are easy to find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_demo import FOUNDATION, STAGES, write_demo

from mindviz.data import Dataset
from mindviz.metrics.inference import bootstrap_interval
from mindviz.storage import load_arrays
from mindviz.types import MindvizError
from training.data.scans import load_scans
from training.demo.publish import test_windows as windows_of_tests
from training.demo.world import WorldRecipe
from training.stages.contrast import ContrastConfig
from training.studies import ablation
from training.studies.ablation import VARIANTS, Bench, OneSubject, with_window
from training.studies.ablation_table import (
    ABLATION_MEASURES,
    TestClips,
    ablation_markdown,
    levels,
    measures_of_tokens,
    table_of,
)


def test_a_sketch_hears_as_many_words_as_the_encoder_says() -> None:
    with pytest.raises(MindvizError, match=r"the 6 words of the encoder \(7 tokens, .* found 7"):
        replace(STAGES, sketch=replace(STAGES.sketch, words=7))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo"), tiny_dataset)


def _bench(home: Path, out: Path, scale: float = 1.0) -> Bench:
    return Bench(OneSubject(home, FOUNDATION, STAGES, WorldRecipe(train=("seg1",))), out, scale)


@pytest.fixture(scope="module")
def out(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant."""
    out = tmp_path_factory.mktemp("ablation")
    ablation.ablate(_bench(home, out))
    return out


def test_every_variant_is_scored_and_set_against_the_full_one(out: Path) -> None:
    content = json.loads((out / "ablation.json").read_text())
    assert list(content["variants"]) == list(VARIANTS) and content["facts"]["scale"] == 1
    assert content["facts"]["clips"] == 12 and content["facts"]["shots"] == 6 and content["facts"]["simulated"]
    for name, row in content["variants"].items():
        assert set(row["scores"]) == set(ABLATION_MEASURES)
        assert all(v["low"] <= v["value"] <= v["high"] for v in row["scores"].values())
        assert (row["difference"] is None) == (name == "full")
        other = "transformer" if name.startswith(("transformer ", "published")) else "full"
        assert row["against"] == other
        if row["difference"]:
            for measure, difference in row["difference"].items():
                both = row["scores"][measure]["value"], content["variants"][other]["scores"][measure]["value"]
                assert difference["value"] == pytest.approx(both[0] - both[1])
    assert content["variants"]["one patch"]["scores"]["right_shot"]["value"] > 0.5 > content["levels"]["right_shot"]
    text = (out / "ablation.md").read_text()
    assert text == ablation_markdown(content) and "simulated" in text
    assert all(text.count(f"\n| {name} |") == (1 if name == "full" else 2) for name in VARIANTS)


def test_variants_differ_in_what_they_say_they_do(out: Path, home: Path) -> None:
    made = {n: json.loads((out / v.folder / "variant.json").read_text()) for n, v in VARIANTS.items()}
    encoders = {n: m["encoder"] for n, m in made.items()}
    assert [encoders[f"window {n}"]["window_size"] for n in (1, 3)] == [1, 3] and encoders["full"]["window_size"] == 2
    assert encoders["published"]["patch_embedding"] == "shared" != encoders["transformer"]["patch_embedding"]
    assert [len(set(encoders[n]["areas"])) for n in ("rows", "one patch", "published")] == [10, 1, 0]
    assert len(encoders["full"]["area_names"]) > 2 and encoders["full"]["areas"] == encoders["transformer"]["areas"]
    assert {n for n, e in encoders.items() if e["questions"]} == {
        n for n, v in VARIANTS.items() if v.kind == "questions"
    }
    assert [made[f"transformer {n}"]["contrast"]["image_weight"] for n in ("text only", "image only")] == [0, 1]
    assert made["transformer no contrast"]["contrast"]["contrast_weight"] == 0
    assert made["transformer mask 0.5"]["masked"]["mask_ratio"] == 0.5 < made["transformer"]["masked"]["mask_ratio"]
    assert made["transformer no augmentation"]["contrast"]["drop"] == 0 < made["transformer"]["contrast"]["drop"]
    loops = {n: set(m["loops"]) for n, m in made.items()}
    assert all(loops[n] == {"attend"} for n, v in VARIANTS.items() if v.kind == "questions")
    assert loops["transformer no pretraining"] == {"contrast"} and loops["published"] == {"masked", "contrast"}
    said = {n: load_arrays(out / v.folder / "tokens.safetensors")["tokens"] for n, v in VARIANTS.items()}
    assert all(not np.array_equal(said[n], said["full"]) for n in VARIANTS if n != "full")
    others = [n for n in VARIANTS if n.startswith("transformer ")]
    assert all(not np.array_equal(said[n], said["transformer"]) for n in others)
    # masked modelling of the demo itself, where the settings are its
    shared = {p.name for p in (out / "shared").iterdir() if p.is_dir()}
    assert (home / "mask1").is_dir() and not (home / "mask2").exists()
    assert shared == {"masked_rows_shared", "masked_rows_per_patch", "masked_areas_per_patch_0.5"}


def test_the_full_variant_is_the_demos_and_the_uniform_one_asks_all_areas_alike(out: Path, home: Path) -> None:
    demo = OneSubject(home, FOUNDATION, STAGES, WorldRecipe(train=("seg1",)))
    tests = windows_of_tests(demo.dataset, demo.scans["1"])
    said = {n: torch.from_numpy(load_arrays(out / n / "tokens.safetensors")["tokens"]) for n in ("full", "uniform")}
    encoder = demo.readouts["1"].eval()
    with torch.inference_mode():
        torch.testing.assert_close(said["full"], encoder(tests), atol=1e-4, rtol=1e-4)
        readout = encoder.readout
        parts = readout.read(tests).mean((1, 2))
        torch.testing.assert_close(
            said["uniform"], readout.prior(readout.gain * parts + readout.bias), atol=1e-4, rtol=1e-4
        )


def test_windows_of_other_sizes_begin_at_the_same_lag(home: Path) -> None:
    dataset = Dataset.open(home / "data")
    bold = dataset.run("1", "seg1").bold
    for size, count in ((1, 46), (3, 44)):
        other = with_window(dataset, size)
        assert np.array_equal(other.windows("1", "seg1")[5], bold[7 : 7 + size])
        assert len(load_scans(other, "1")) == count and len(other.windows("1", "test1")) == 12
    assert dataset.window_spec.size == 2


def test_what_is_finished_is_not_trained_again_and_what_is_not_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = ablation.train_variant, []

    def stopping(bench: Bench, variant: ablation.Variant) -> torch.Tensor:
        trained.append(variant.name)
        if variant.name == "full" and len(trained) == 2:
            raise KeyboardInterrupt("stopped")
        return real(bench, variant)

    monkeypatch.setattr(ablation, "train_variant", stopping)
    with pytest.raises(KeyboardInterrupt):
        ablation.ablate(_bench(home, tmp_path, 0.5), ["uniform", "full"])
    content = json.loads((tmp_path / "ablation.json").read_text())
    assert list(content["variants"]) == ["uniform"] and content["variants"]["uniform"]["difference"] is None
    content = ablation.ablate(_bench(home, tmp_path, 0.5), ["uniform", "full"])
    assert trained == ["uniform", "full", "full"] and content["variants"]["uniform"]["difference"]
    assert content["variants"]["full"]["steps"] == {"attend": 20}


def test_other_settings_and_unknown_names_are_refused(out: Path, home: Path) -> None:
    with pytest.raises(MindvizError, match=r"ablation\.json: expected scale = 2.*found 1"):
        ablation.ablate(_bench(home, out, 2.0), ["uniform"])
    changed = _bench(home, out)
    changed.demo.stages = replace(STAGES, contrast=ContrastConfig(drop=0.5))
    with pytest.raises(MindvizError, match=r"full.variant\.json: expected contrast = .*0\.5"):
        ablation.ablate(changed, ["rows"])
    with pytest.raises(MindvizError, match="found window 9"):
        ablation.ablate(_bench(home, out), ["window 9"])
    with pytest.raises(MindvizError, match="scale above 0, found 0"):
        ablation.ablate(_bench(home, out, 0.0))


def test_the_measures_are_those_of_their_definitions() -> None:
    """Three captions, four clips, the first two of one shot; the last is taken for the third."""
    captions = np.array([[[3.0, 0.0]], [[0.0, 3.0]], [[-3.0, -3.0]]])
    clips = TestClips(captions, np.array([0, 0, 1, 2]), np.array([0, 0, 1, 2]))
    said = captions[[0, 0, 1, 1]] + [[0.1, 0.0]]
    values = measures_of_tokens(said, clips)
    assert values["right_shot"].tolist() == [1, 1, 1, 0] and values["right_clip"].tolist() == [0.5, 0.5, 1, 0]
    np.testing.assert_allclose(values["squared_error"], [0.005, 0.005, 0.005, (3.1**2 + 36) / 2])
    assert values["pairwise"][0] == pytest.approx(1 - 0.5 / 3)
    alike = measures_of_tokens(np.ones((4, 1, 2)), clips)
    assert alike["right_clip"].mean() == pytest.approx(0.25) and alike["pairwise"].mean() == 0.5
    assert levels(clips, captions.mean(0))["right_shot"] == pytest.approx(alike["right_shot"].mean())
    rows = table_of({"full": captions[clips.caption], "ridge": said}, clips)
    less = values["right_clip"] - measures_of_tokens(captions[clips.caption], clips)["right_clip"]
    found = rows["ridge"]["difference"]["right_clip"]
    assert (found["low"], found["high"]) == bootstrap_interval(less, clips.shots)
    with pytest.raises(MindvizError, match=r"finite tokens of shape \(4, 1, 2\), found \(3, 1, 2\)"):
        measures_of_tokens(said[:3], clips)


def test_the_command_names_what_is_wrong(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--demo", str(home), "--subject", "9", "--out", str(tmp_path), "--only", "uniform"]
    assert ablation.main(arguments) == 2
    assert "training.studies.ablation: " in capsys.readouterr().err
