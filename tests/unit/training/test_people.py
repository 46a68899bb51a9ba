"""Many people, the same questions: `population` and `adapt`, as functions and as stages."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny_demo import STAGES, write_demo

from mindviz.checkpoint.subject import read_encoder_config
from mindviz.data import Dataset
from mindviz.extensions.questions import QuestionEncoder, make_encoder
from mindviz.storage import load_arrays, load_module
from mindviz.types import MindvizError
from training import stage
from training.data.scans import load_scans
from training.demo import people
from training.demo.recipe import OWN_DATA
from training.engine.loop import LoopConfig

LOOP = LoopConfig(steps=40, batch_size=16, lr=0.05, weight_decay=0.0, warmup=2, save_every=40)


class Words:
    """Stands for Stable Diffusion's text encoder: tokens of a caption that are its own."""

    fingerprint = "words"

    def text_tokens(self, captions: Sequence[str]) -> torch.Tensor:
        drawn = [torch.Generator().manual_seed(zlib.crc32(c.encode())) for c in captions]
        return torch.stack([torch.randn(3, 8, generator=g) for g in drawn])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    return write_demo(tmp_path_factory.mktemp("people"), tiny_dataset) / "data"


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stage.RECIPES, "demo", replace(OWN_DATA, encoder=STAGES.encoder))
    monkeypatch.setattr(stage, "open_parts", lambda source: Words())
    monkeypatch.setattr(stage, "ATTEND_LOOP", LOOP)


def test_a_new_person_is_adapted_from_everybody_elses_attention(data: Path, tmp_path: Path) -> None:
    arguments = ["--recipe", "demo", "--data", str(data), "--sd", "words"]
    assert stage.main("population", [*arguments, "--subject", "1", "--out", str(tmp_path / "everybody")]) == 0
    shared = people.load_population(tmp_path / "everybody" / "model")
    assert shared.config.questions[0] == "components 1 to 5" and len(shared.config.area_names) > 2
    made = ["--subject", "2", "--runs", "1", "--init", str(tmp_path / "everybody"), "--out", str(tmp_path / "new")]
    assert stage.main("adapt", [*arguments, *made]) == 0
    home = tmp_path / "new" / "model"
    encoder = make_encoder(read_encoder_config(home))
    load_module(home, encoder)
    assert isinstance(encoder, QuestionEncoder)
    dataset = Dataset.open(data)
    scans = load_scans(dataset, "2")
    assert (load_arrays(home / stage.VOXELS)["vertices"] == scans.data.vertices).all()
    common = [n for n in encoder.config.area_names if n in shared.config.area_names]
    mine, theirs = (
        torch.stack([readout.areas[names.index(n)] for n in common])
        for readout, names in ((encoder.readout, encoder.config.area_names), (shared, shared.config.area_names))
    )
    assert len(common) > 2 and torch.equal(mine, theirs) and theirs.abs().max() > 0.01
    wanted = people.window_tokens(Words(), dataset, scans, ("seg1",))
    with torch.inference_mode():
        error = (encoder.eval()(scans.windows.float()) - wanted).square().mean()
    assert error < 0.7 * (wanted - wanted.mean(0)).square().mean()


def test_a_population_learns_from_all_subjects_and_is_stored_whole(data: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(data)
    config = replace(STAGES.encoder, num_tokens=3)
    shared = people.population(config, dataset, ("1", "2"), Words(), LOOP, tmp_path / "run")
    one = people.person_config(config, dataset, load_scans(dataset, "1"))
    two = people.person_config(config, dataset, load_scans(dataset, "2"))
    assert set(shared.config.area_names) == {*one.area_names, *two.area_names}
    people.save_population(tmp_path / "kept", shared)
    kept = people.load_population(tmp_path / "kept")
    assert all(torch.equal(a, b) for a, b in zip(shared.state_dict().values(), kept.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("adapt", ["--subject", "2"], "expected --init, found none"),
        ("adapt", ["--init", "OUT"], "expected --subject, found none"),
        ("adapt", ["--subject", "2", "--init", "OUT"], "expected a population"),
        ("population", ["--recipe", "paper"], "expected --recipe demo, whose encoder is asked questions"),
        ("population", ["--subject", "1,9"], "9"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: list[str], sentence: str
) -> None:
    more = [str(tmp_path / "nothing") if word == "OUT" else word for word in more]
    arguments = ["--recipe", "demo", "--data", str(data), "--sd", "words", "--out", str(tmp_path / "out"), *more]
    assert stage.main(name, arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_what_does_not_fit_a_population_is_refused(data: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(data)
    config = replace(STAGES.encoder, num_tokens=3)
    shared = people.population(config, dataset, ("1",), Words(), LOOP, tmp_path / "run")
    scans = load_scans(dataset, "2")
    asked = replace(config, **people.asked_of(shared))
    with pytest.raises(MindvizError, match="3 tokens of 8, found 2 scans and 4 tokens of 8"):
        people.adapt(asked, dataset, scans, torch.zeros(len(scans), 4, 8), shared)
    shared.config = replace(shared.config, area_names=tuple(f"x{i}" for i in range(len(shared.config.area_names))))
    with pytest.raises(MindvizError, match=r"expected areas of .* found only others"):
        people.adapt(asked, dataset, scans, torch.zeros(len(scans), 3, 8), shared)
    with pytest.raises(MindvizError, match="--runs: expected 1 to 1, the training runs of subject 2, found 3"):
        people.runs_of(dataset, "2", 3)
    named = replace(shared.config, answers=(tuple("abcde"),) * len(shared.config.sizes))
    shared.config = named
    with pytest.raises(MindvizError, match="found named answers to components 1 to 5"):
        people.wanted_answers(shared, torch.zeros(2, 3, 8))
