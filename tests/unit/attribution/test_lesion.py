"""Lesions: by hand, against the report's identification, and where nothing or everything is taken away."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.lesioned import DEAF, write_lesioned

from mindviz import session
from mindviz.attribution import lesion
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.lesion import (
    Candidates,
    Groups,
    change,
    chosen_groups,
    groups_of,
    losses,
    paint_without,
    tokens_without,
)
from mindviz.brain import parcellations
from mindviz.checkpoint.folder import read_clip
from mindviz.diffusion.clip import text_tokens
from mindviz.metrics import identify, ssim
from mindviz.metrics.rows import centred_similarity
from mindviz.session.lesions import Lesions
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError, SamplingSettings, VideoClip

SETTINGS = SamplingSettings(2, 2.0, 11)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, tiny_checkpoint: Path) -> Path:
    return write_lesioned(tmp_path_factory.mktemp("lesioned") / "data", tiny_dataset, tiny_checkpoint)


@pytest.fixture(scope="module")
def opened(home: Path) -> Workspace:
    return session.open(home)


@pytest.fixture(scope="module")
def explainer(opened: Workspace) -> Explainer:
    return opened.explainer("1")


@pytest.fixture(scope="module")
def candidates(opened: Workspace, explainer: Explainer) -> Candidates:
    found = lesion.candidates_of(explainer, opened.dataset, "test1")
    assert isinstance(found, Candidates)
    return found


# ---------------------------------------------------------------------- nothing and everything
def test_what_is_not_heard_changes_nothing(opened: Workspace, explainer: Explainer, candidates: Candidates) -> None:
    """The independent check: not a bit of tokens, place or film; of any other patch all but the place must change."""
    window, intact = opened.dataset.window("1", "test1", 5), opened.decode("1", "test1", 5, SETTINGS)
    groups = groups_of(explainer, "patch")
    found = losses(explainer, window, groups, candidates)
    assert found.moved[DEAF] == 0 and found.ranks[DEAF] == found.rank
    assert (np.delete(found.moved, DEAF) > 1e-3).all()
    away = opened.decoder.negative_tokens(window, SETTINGS)
    films = {g: paint_without(explainer, window, groups.of == g, away, SETTINGS) for g in (DEAF, 0)}
    np.testing.assert_array_equal(films[DEAF].frames, intact.clip.frames)
    assert (films[0].frames != intact.clip.frames).any()
    assert tokens_without(explainer, window, np.zeros(320, bool)).tobytes() == intact.encoding.tokens.tobytes()


def test_without_all_voxels_it_is_the_mean_scan(opened: Workspace, explainer: Explainer) -> None:
    window, everything = opened.dataset.window("1", "test1", 4), np.ones(320, bool)
    with torch.no_grad():
        mean = explainer.encoder(torch.from_numpy(explainer.data.negative[None]))[0].numpy()
    np.testing.assert_allclose(tokens_without(explainer, window, everything), mean, atol=1e-5)
    found = losses(explainer, window, Groups("all", np.zeros(320, int), ("all",)))
    assert found.moved == pytest.approx([1.0], abs=1e-6) and found.ranks is None


def test_a_lesion_by_hand(opened: Workspace, explainer: Explainer, candidates: Candidates) -> None:
    """The mean scan stands in for an area's voxels; how far that moves, and the order of the cosines, counted."""
    window, groups = opened.dataset.window("1", "test1", 7), groups_of(explainer, "hcp-mmp")
    found = losses(explainer, window, groups, candidates)
    bold = explainer.tensors([window])
    lost = torch.where(torch.from_numpy(groups.of == 3), explainer.baseline, bold)
    with torch.no_grad():
        after, before = explainer.encoder(lost)[0], explainer.encoder(bold)[0]
        far = explainer.encoder(explainer.baseline[None])[0] - before
    assert found.moved[3] == pytest.approx(float((after - before).norm() / far.norm()), rel=1e-4)
    every = candidates.different[candidates.place].astype(float)
    said = (after.numpy() - candidates.centre).ravel()
    scores = [said @ (c - every.mean(0)).ravel() / np.linalg.norm(c - every.mean(0)) for c in every]
    above = sum(score > scores[7] + 1e-9 for score in scores)
    assert found.ranks[3] == 1 + above + 0.5  # the other clip of its shot has the same caption
    by_area = explainer.maps([window], "lesion_area")[0]
    np.testing.assert_allclose(by_area[groups.of == 3], found.moved[3], rtol=1e-3)


def test_the_place_of_the_truth_is_that_of_the_report(
    opened: Workspace, explainer: Explainer, candidates: Candidates
) -> None:
    """`metrics.rows.identification_rows` measures the same: predictions and captions, each less their mean."""
    windows = [opened.dataset.window("1", "test1", i) for i in range(12)]
    tokens = np.stack([opened.decoder.encode(w).tokens for w in windows])
    captions = [opened.dataset.captions("test1", i)[3] for i in range(12)]
    named = text_tokens(read_clip(opened.decoder.folder), captions)
    expected = identify(centred_similarity(tokens.reshape(12, -1), named.reshape(12, -1)), np.arange(12) // 2).rank
    found = [candidates.rank(tokens[i], i) for i in range(12)]
    np.testing.assert_allclose(found, expected, atol=0.5)  # two clips of a caption may differ there by rounding
    assert len(set(found)) > 3 and candidates.count == 12 and len(candidates.different) == 6


# ---------------------------------------------------------------------- what can be taken out
def test_networks_span_both_hemispheres_and_areas_do_not(explainer: Explainer) -> None:
    labels = parcellations.load("yeo7").labels[explainer.data.vertices]
    networks = groups_of(explainer, "yeo7")
    assert "Visual" in networks.names and networks.by == "yeo7"
    np.testing.assert_array_equal(networks.of == networks.index("Visual"), labels == 1)
    np.testing.assert_array_equal(networks.voxels, [(networks.of == i).sum() for i in range(len(networks.names))])
    areas = groups_of(explainer, "hcp-mmp")
    assert all(name[:2] in ("L_", "R_") for name in areas.names) and len(areas.names) > len(networks.names)
    patches = groups_of(explainer, "patch")
    assert patches.names[:2] == ("patch 1", "patch 2") and len(patches.names) == 20
    own = replace(parcellations.load("yeo17"), name="mine")
    assert groups_of(explainer, own).by == "mine"


def test_what_cannot_be_taken_out_is_a_sentence(explainer: Explainer, opened: Workspace) -> None:
    with pytest.raises(MindvizError, match=r"one of yeo7, yeo17, hcp-mmp, patch or a parcellation, found 'lobe'"):
        groups_of(explainer, "lobe")
    with pytest.raises(MindvizError, match=r"a group of yeo7 that has voxels \(Visual, …\), found 'Visaul'"):
        groups_of(explainer, "yeo7").index("Visaul")
    with pytest.raises(MindvizError, match="whether each of 320 voxels is lost, found shape"):
        tokens_without(explainer, opened.dataset.window("1", "test1", 0), np.ones(3, bool))
    window = opened.dataset.window("1", "test1", 2)
    mean = replace(window, bold=np.zeros_like(window.bold))  # of which the tiny checkpoint's negative is made
    with pytest.raises(MindvizError, match=r"scan 2 of test1: expected tokens other than the mean scan's"):
        losses(explainer, mean, groups_of(explainer, "yeo7"))


def test_why_there_is_no_place_of_the_truth(
    opened: Workspace, explainer: Explainer, home: Path, tiny_dataset: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    bare = session.open(tiny_dataset, tiny_checkpoint).explainer("1")
    assert "has no CLIP to read captions" in lesion.candidates_of(bare, opened.dataset, "test1")
    shutil.copytree(home, tmp_path / "data")
    notes = tmp_path / "data" / "stimuli" / "test1.json"
    told = json.loads(notes.read_text())
    for captions, why in ((["a"] * 72, "all clips of test1 have one caption"), ([], "has no captions of test1")):
        notes.write_text(json.dumps(told | {"captions": captions}))
        silent = session.open(tmp_path / "data")
        said = Lesions(silent).losses(silent.dataset.window("1", "test1", 1), "yeo7")
        assert why in said.untold and said.rank is None and said.ranks is None and (said.moved > 0).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion, "text_tokens", lambda *_: np.zeros((6, 5, 32), np.float32))
        said = lesion.candidates_of(explainer, opened.dataset, "test1")
    assert "tokens (8, 32) are not like those of captions (5, 32)" in said


# ---------------------------------------------------------------------- films
def test_a_change_is_zero_for_the_same_film_and_known_for_another() -> None:
    rng = np.random.default_rng(0)
    intact, shown = (VideoClip(rng.integers(0, 200, (6, 16, 16, 3), dtype=np.uint8), 3.0) for _ in range(2))
    same = change(intact, intact, shown)
    assert (same.ssim_intact, same.rmse_intact) == (1.0, 0.0)
    assert same.ssim_shown == pytest.approx(ssim(intact.frames[None], shown.frames[None])[0])
    lighter = change(VideoClip(intact.frames + np.uint8(7), 3.0), intact, shown)
    assert lighter.rmse_intact == pytest.approx(7) and lighter.ssim_intact < 1
    large = VideoClip(np.repeat(np.repeat(shown.frames, 2, 1), 2, 2), 3.0)
    assert np.isfinite(change(intact, intact, large).ssim_shown)  # what was shown may have another size


def test_the_groups_to_paint_are_those_named_or_those_that_matter_most(explainer: Explainer, opened: Workspace) -> None:
    found = losses(explainer, opened.dataset.window("1", "test1", 5), groups_of(explainer, "patch"))
    best = chosen_groups(found, top=2)
    assert list(best) == np.argsort(-found.moved)[:2].tolist() and found.order[-1] == DEAF
    assert chosen_groups(found, ["patch 4", "patch 1", "patch 4"]) == (3, 0)
    assert chosen_groups(found, top=0) == ()


def test_what_was_computed_is_kept_and_another_seed_is_the_baseline(opened: Workspace, monkeypatch) -> None:
    lesions, intact = Lesions(opened), opened.decode("1", "test1", 6, SETTINGS)
    phases: list[str] = []
    found = lesions.losses(intact.window, "yeo7", lambda what: phases.append(what) or (lambda *_: None))
    assert phases == ["Reading the run", "Taking out one after the other"]
    assert lesions.losses(intact.window, "yeo7") is found
    other = opened.decode("1", "test1", 6, replace(SETTINGS, seed=12))
    assert lesions.other_seed(intact) == lesions.change(other.clip, intact)
    monkeypatch.setattr(lesion, "paint_without", None)
    assert lesions.other_seed(intact).ssim_intact < 1  # kept
    for i in range(60):
        lesions.kept(("more", i), lambda: 0)
    assert lesions.losses(intact.window, "yeo7") is not found  # but not for ever


def test_a_negative_of_the_run_is_that_of_the_intact_decoding(opened: Workspace, explainer: Explainer) -> None:
    settings = replace(SETTINGS, negative="given")
    intact, lesions = opened.decode("1", "test1", 5, settings), Lesions(opened)
    found = lesions.losses(intact.window, "patch")
    np.testing.assert_array_equal(lesions.film(intact, found, DEAF).frames, intact.clip.frames)
