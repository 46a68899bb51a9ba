"""What a scan answers to the questions of its decoder, and what areas say alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sketched import ENCODER

from mindviz.checkpoint.subject import write_encoder
from mindviz.data import Dataset
from mindviz.decoder import Decoder
from mindviz.extensions.questions import QuestionEncoder
from mindviz.session.answers import answers_of, answers_record
from mindviz.session.workspace import Workspace
from mindviz.ui import views


@pytest.fixture
def asking(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path: Path) -> Workspace:
    """The tiny checkpoint with an encoder of five areas that is asked two questions."""
    home = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, home)
    decoder = Decoder.load(home)
    own = decoder.encoder_config("1")
    areas = tuple(min(i // 60, 4) for i in range(own.num_voxels))
    config = replace(
        ENCODER,
        num_voxels=own.num_voxels,
        areas=areas,
        patch_size=int(np.bincount(areas).max()),
        window_size=own.window_size,
        num_tokens=own.num_tokens,
        token_dim=own.token_dim,
    )
    torch.manual_seed(0)
    encoder = QuestionEncoder(config)
    for parameter in encoder.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    shutil.rmtree(home / "subject1" / "fmri_encoder")
    write_encoder(home, "1", encoder)
    return Workspace(Decoder.load(home), Dataset.open(tiny_dataset))


def test_answers_are_those_of_the_encoder_and_areas_stand_by_their_share(asking: Workspace) -> None:
    window = asking.dataset.window("1", "test1", 3)
    found = answers_of(asking, window, areas=5)
    assert [one.question for one in found] == ["what", "layout"] and found[1].answers == ()
    encoder = asking.decoder.encoder("1")
    bold = torch.from_numpy(asking.decoder.normalise(window.bold, "1", window.run_std))[None].float()
    with torch.inference_mode():
        likely = encoder.answers(bold)[0, :4].softmax(0)
        shares = encoder.readout.weights().sum(1)[0]
        said = encoder.readout.read(bold)
    best = found[0].answers[0]
    assert best[0] == ENCODER.answers[0][int(likely.argmax())] and best[1] == pytest.approx(float(likely.max()))
    assert [a.share for a in found[0].areas] == sorted((float(s) for s in shares), reverse=True)
    assert sum(a.share for a in found[0].areas) == pytest.approx(1)
    top = int(shares.argmax())
    weights = encoder.readout.weights()[0, :, top]
    alone = (weights / weights.sum()) @ said[0, :, top, :4]  # this area alone, in the scans as it is asked
    alone = (encoder.readout.own_gain[0, top] * alone + encoder.readout.bias[:4]).softmax(0)
    assert found[0].areas[0].area == ENCODER.area_names[top]
    assert found[0].areas[0].answers[0][1] == pytest.approx(float(alone.max().detach()), abs=1e-5)
    record = answers_record(found)
    assert record[0]["answers"][0]["answer"] == best[0] and record[1]["areas"][0]["alone"] == []


def test_the_page_says_them_in_words_and_escapes_names(asking: Workspace) -> None:
    found = answers_of(asking, asking.dataset.window("1", "test1", 0))
    html = views.answers([replace(found[0], question="<what>"), found[1]])
    assert "&lt;what&gt;" in html and "<what>" not in html and html.count("<tr>") == 1 + 10
    assert views.answers([]) == ""


def test_an_encoder_without_questions_answers_none(workspace: Workspace) -> None:
    assert answers_of(workspace, workspace.dataset.window("1", "test1", 0)) == []
