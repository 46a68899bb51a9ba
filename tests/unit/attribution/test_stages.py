"""Figure 7 as a command: what it writes, and that its numbers are those of the maps."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mindviz import cli
from mindviz.attribution import stages
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS
from mindviz.brain import parcellations
from mindviz.checkpoint.subject import write_encoder
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.encoder import FMRIEncoder

pytestmark = pytest.mark.slow  # figures of all layers and stages, in three formats


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, tiny_checkpoint: Path) -> Path:
    """The tiny dataset and checkpoint, and in it an encoder as it was before contrast."""
    home = tmp_path_factory.mktemp("stages") / "data"
    shutil.copytree(tiny_dataset, home)
    if not (home / "checkpoint").exists():
        shutil.copytree(tiny_checkpoint, home / "checkpoint")
    torch.manual_seed(7)
    encoder = FMRIEncoder(Decoder.load(home / "checkpoint").encoder_config("1"))
    write_encoder(home / "checkpoint", "1", encoder, "mask")
    return home


@pytest.fixture(scope="module")
def written(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figure") / "seven"
    assert cli.main(["attention", "--data", str(home), "--subject", "1", "--out", str(out)]) == 0
    return out


def test_it_writes_a_figure_in_three_formats_its_table_and_its_origin(written: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == [
        f"attention_stages.{e}" for e in ("csv", "json", "pdf", "png", "svg")
    ]
    assert (written / "attention_stages.pdf").read_bytes()[:5] == b"%PDF-"
    told = json.loads((written / "attention_stages.json").read_text())
    assert told["simulated"] and told["method"] == "received" and told["scans"] == 12 and told["seed"] == 0
    text = (written / "attention_stages.svg").read_text()
    assert told["caution"] == METHODS["received"].caution
    said = " ".join(text.replace("<!--", " ").replace("-->", " ").split())
    assert told["caution"].partition(":")[0] in said and "bootstrap over shots." in said
    assert text.count("Before contrast") == text.count("Full model") == 2 and "simulated data" in text


def test_the_table_holds_the_networks_of_the_mean_map(written: Path, home: Path) -> None:
    with (written / "attention_stages.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["simulated"] for r in rows} == {"yes"}
    assert {(r["stage"], r["layer"]) for r in rows} == {(s, f"layer {i}") for s in ("mask", "full") for i in (1, 2)}
    decoder, dataset = Decoder.load(home / "checkpoint"), Dataset.open(home)
    windows = [dataset.window("1", "test1", i) for i in range(12)]
    for stage in ("mask", "full"):
        explainer = Explainer(decoder, "1", stage)
        mean = explainer.maps(windows, "received", 1).mean(axis=0).astype(float)
        parcels = parcellations.load("yeo7")
        labels = parcels.labels[explainer.data.vertices]
        some = [r for r in rows if (r["stage"], r["layer"]) == (stage, "layer 2")]
        assert sum(float(r["share"]) for r in some) == pytest.approx(1, abs=1e-4)
        for row in some:
            own = labels == parcels.index(row["network"])
            assert int(row["voxels"]) == own.sum()
            assert float(row["mean"]) == pytest.approx(mean[own].mean(), rel=1e-4)
            share = mean[own].sum() / mean[labels > 0].sum()
            assert float(row["enrichment"]) == pytest.approx(share / own.sum() * (labels > 0).sum(), rel=1e-4)
            assert float(row["enrichment_low"]) <= float(row["enrichment"]) <= float(row["enrichment_high"])


def test_layers_are_the_first_the_middle_and_the_last() -> None:
    many = [f"layer {i + 1}" for i in range(24)]
    assert stages.layers_shown(many) == [(0, "layer 1"), (12, "layer 13"), (23, "layer 24")]
    assert stages.layers_shown(["read-out"]) == [(0, "read-out")]
    assert stages.layers_shown(["layer 1"]) == [(0, "layer 1")]


def test_clips_belong_to_the_shot_of_their_middle_frame(home: Path) -> None:
    dataset = Dataset.open(home)
    np.testing.assert_array_equal(stages.shots_of(dataset, "test1", 12), np.repeat(np.arange(6), 2) + 1)


def test_where_no_shots_are_known_neighbours_stand_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(home)
    assert stages.intervals_of(dataset, "test1", 12) == "95 %, bootstrap over shots"
    monkeypatch.setattr(dataset, "shots", lambda run: [])
    np.testing.assert_array_equal(stages.shots_of(dataset, "test1", 31), np.arange(31) // 15)
    assert "over blocks of 15 clips" in stages.intervals_of(dataset, "test1", 16)
    decoder = Decoder.load(home / "checkpoint")
    found = stages.stage_maps(decoder, dataset, "1", "test1")
    assert all(np.isnan(one.networks.share_interval).all() for one in found), "12 clips are one block"
    assert all(np.isfinite(one.networks.share).all() for one in found)
    out = home.parent / "blocks"
    stages.write_stages(found, decoder, dataset, "1", "test1", out)
    assert json.loads((out / "attention_stages.json").read_text())["intervals"].startswith("no intervals")
    with (out / "attention_stages.csv").open() as file:
        assert {(r["share_low"], r["simulated"]) for r in csv.DictReader(file)} == {("", "yes")}


def test_a_folder_with_something_in_it_and_an_unknown_parcellation_are_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    base = ["attention", "--data", str(home), "--subject", "1", "--out"]
    assert cli.main([*base, str(tmp_path)]) == 2
    assert "found mine.txt in it" in capsys.readouterr().err
    assert cli.main([*base, str(tmp_path / "new"), "--parcellation", "brodmann"]) == 2
    assert "unknown parcellation 'brodmann'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
