"""Every method on the tiny checkpoint, against the functions below it and against what lesions do by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sketched import ENCODER

from mindviz.attribution import explainer as explainer_module
from mindviz.attribution.attention import attention_received, attention_rollout
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.gradients import integrated_gradients
from mindviz.attribution.methods import METHODS
from mindviz.attribution.patterns import activation_patterns
from mindviz.brain import parcellations
from mindviz.checkpoint.subject import read_encoder, write_encoder
from mindviz.data import Dataset
from mindviz.data.whole_runs import run_scans, shuffled_scans
from mindviz.decoder import Decoder
from mindviz.extensions.questions import QuestionEncoder
from mindviz.types import MindvizError, Window


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return Dataset.open(tiny_dataset)


@pytest.fixture(scope="module")
def explainer(dataset: Dataset, tiny_checkpoint: Path) -> Explainer:
    return Explainer(Decoder.load(tiny_checkpoint), "1", scans=run_scans(dataset, "1"))


@pytest.fixture(scope="module")
def windows(dataset: Dataset) -> list[Window]:
    return [dataset.window("1", "test1", i) for i in range(5)]


@pytest.mark.parametrize("method", METHODS)
def test_a_map_has_a_value_for_every_voxel(explainer: Explainer, windows: list[Window], method: str) -> None:
    done: list[int] = []
    maps = explainer.maps(windows, method, progress=lambda n, total: done.append(total - n))
    assert maps.shape == (5, len(explainer.data.vertices)) and maps.dtype == np.float32
    assert np.isfinite(maps).all() and (maps >= 0).all() and np.ptp(maps) > 0
    assert done[-1] == 0
    single = explainer.map(windows[2], method)
    np.testing.assert_allclose(single.values, maps[2], atol=1e-5)
    assert (single.method, single.stage) == (method, "full")


@pytest.mark.parametrize("method", ["received", "rollout"])
def test_attention_is_that_of_the_decoder(explainer: Explainer, windows: list[Window], method: str) -> None:
    attention = explainer.decoder.encode(windows[1]).attention
    expected = attention_received(attention, 1, 0) if method == "received" else attention_rollout(attention)
    found = (
        explainer.by_scan(windows, method, layer=1, head=0)
        if method == "received"
        else explainer.by_scan(windows, method)
    )
    patch = explainer.patches()
    np.testing.assert_allclose(found[1][:, patch >= 0], expected[:, patch[patch >= 0]], atol=1e-5)


def test_a_pattern_is_what_the_checkpoint_holds_and_of_the_trained_encoder_only(
    explainer: Explainer, windows: list[Window], tiny_checkpoint: Path
) -> None:
    assert explainer.data.explained is not None
    np.testing.assert_array_equal(explainer.by_scan(windows, "pattern")[3], explainer.data.explained)
    np.testing.assert_allclose(explainer.map(windows[0], "pattern").values, explainer.data.explained.mean(0))
    for other in (Explainer(explainer.decoder, "2"), Explainer(explainer.decoder, "1", "untrained")):
        with pytest.raises(MindvizError, match=rf"activation patterns of subject {other.subject}, stage {other.stage}"):
            other.map(replace(windows[0], subject=other.subject), "pattern")


def test_integrated_gradients_add_up(explainer: Explainer, windows: list[Window]) -> None:
    found = explainer.by_scan(windows, "integrated_gradients")
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=0.05)
    np.testing.assert_allclose(
        explainer.maps(windows, "integrated_gradients"), np.abs(found).sum(axis=1), rtol=1e-4, atol=1e-7
    )


def test_patches_hold_the_voxels_that_the_encoder_takes_together(explainer: Explainer) -> None:
    patches = explainer.patches()
    sizes = np.bincount(patches[patches >= 0])
    assert (sizes[:-1] == explainer.config.patch_size).all() and (np.diff(patches[patches >= 0]) >= 0).all()


def test_turned_gradients_are_the_pattern_of_the_tangent(explainer: Explainer, dataset: Dataset) -> None:
    """By hand: three directions of 12 scans, the Jacobian at the window, the regression on what it reads."""
    scans = [dataset.window("1", "test1", i) for i in range(12)]
    bold = explainer.tensors(scans)
    with torch.no_grad():
        tokens = explainer.encoder(bold).flatten(1)
    directions = torch.linalg.svd(tokens - tokens.mean(0), full_matrices=False)[2][:3]
    read_by = torch.autograd.functional.jacobian(lambda w: explainer.encoder(w[None]).flatten() @ directions.T, bold[5])
    expected = activation_patterns(bold, bold.flatten(1) @ read_by.flatten(1).T, 3).explained
    np.testing.assert_allclose(explainer.by_scan([scans[5]], "gradient_pattern")[0], expected, atol=1e-3)


def test_turned_gradients_need_the_whole_run(explainer: Explainer, windows: list[Window]) -> None:
    alone = Explainer(explainer.decoder, "1")
    with pytest.raises(MindvizError, match=r"expected all scans of the run, .* found none"):
        alone.maps(windows, "gradient_pattern")
    with pytest.raises(MindvizError, match=r"expected all scans of the run, .* found none"):
        alone.control("shuffled", windows, "gradient_pattern")
    with pytest.raises(MindvizError, match=r"windows of one run, .* found 2 runs"):
        explainer.maps([windows[0], replace(windows[1], run="other")], "gradient_pattern")
    short = Explainer(explainer.decoder, "1", scans=lambda run: windows[:2])
    with pytest.raises(MindvizError, match="found 2 scans, 1 components"):
        short.maps(windows[:1], "gradient_pattern")


def test_shuffling_takes_the_whole_run_apart(explainer: Explainer, dataset: Dataset, windows: list[Window]) -> None:
    mixed = shuffled_scans([dataset.window("1", "test1", i) for i in range(12)], 4)
    other = Explainer(explainer.decoder, "1", scans=lambda run: mixed)
    found = explainer.control("shuffled", windows[1:3], "gradient_pattern", seed=4)
    np.testing.assert_allclose(found, other.maps(mixed[1:3], "gradient_pattern").mean(0), atol=1e-5)


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.by_position])
def test_a_position_is_one_scan_of_the_window(explainer: Explainer, windows: list[Window], method: str) -> None:
    parts = np.abs(explainer.by_scan(windows[:2], method))
    first, second = (explainer.maps(windows[:2], method, position=p) for p in (0, 1))
    np.testing.assert_allclose(first, parts[:, 0], atol=1e-5)
    np.testing.assert_allclose(second, parts[:, 1], atol=1e-5)
    both = first + second if method == "integrated_gradients" else (first + second) / 2
    np.testing.assert_allclose(explainer.maps(windows[:2], method), both, atol=1e-5)
    np.testing.assert_allclose(explainer.map(windows[1], method, position=1).values, second[1], atol=1e-5)
    if method != "pattern":
        control = explainer.control("untrained", windows[:1], method, position=1)
        untrained = Explainer(explainer.decoder, "1", "untrained", explainer.scans)
        np.testing.assert_allclose(control, untrained.maps(windows[:1], method, position=1)[0], atol=1e-5)


def test_lesions_by_a_given_parcellation(explainer: Explainer, windows: list[Window]) -> None:
    """Each network of Yeo's seven in both hemispheres at once, by hand."""
    yeo = parcellations.load("yeo7")
    found = explainer.maps(windows[:1], "lesion_area", by=yeo)[0]
    bold, labels = explainer.tensors(windows[:1]), yeo.labels[explainer.data.vertices]
    with torch.no_grad():
        before, mean = explainer.encoder(bold)[0], explainer.encoder(explainer.baseline[None])[0]
        for label in np.unique(labels):
            lost = torch.where(torch.from_numpy(labels == label), explainer.baseline, bold)
            moved = float((explainer.encoder(lost)[0] - before).norm() / (mean - before).norm())
            np.testing.assert_allclose(found[labels == label], moved if label else np.nan, atol=1e-5)
    assert not np.array_equal(found, explainer.maps(windows[:1], "lesion_area")[0])
    tried = labels > 0
    assert not tried.all() and np.isfinite(found[tried]).all()
    control = explainer.control("untrained", windows[:1], "lesion_area", by=yeo)
    assert len(np.unique(control[tried])) <= 7 and np.isnan(control[~tried]).all()
    uniform = explainer.control("uniform", windows[:1], "lesion_area", by=yeo)
    np.testing.assert_allclose(uniform[tried], found[tried].mean(), rtol=1e-5)
    assert np.isnan(uniform[~tried]).all()


def test_shuffled_scans_keep_each_voxels_values_and_nothing_else(windows: list[Window]) -> None:
    mixed = shuffled_scans(windows, seed=1)
    before, after = (np.stack([w.bold for w in ws]) for ws in (windows, mixed))
    np.testing.assert_array_equal(np.sort(after, axis=0), np.sort(before, axis=0))
    assert not (after == before).all(axis=1).any()  # no voxel keeps its own
    np.testing.assert_array_equal(after, np.stack([w.bold for w in shuffled_scans(windows, seed=1)]))
    assert not np.array_equal(after, np.stack([w.bold for w in shuffled_scans(windows, seed=2)]))


def test_few_voxels_of_shuffled_scans_go_the_same_way(windows: list[Window]) -> None:
    """One pair in N - 1, as is said; of two windows all would."""
    rng = np.random.default_rng(0)
    for count in (3, 5):
        many = [replace(w, bold=rng.random((2, 2000), dtype=np.float32)) for w in windows[:count]]
        mixed = np.stack([w.bold for w in shuffled_scans(many, seed=2)])
        before = np.stack([w.bold for w in many])
        came_from = (mixed[:1] == before).all(axis=1).argmax(axis=0)  # the window that each voxel of the first has
        shares = np.bincount(came_from, minlength=count) / 2000
        assert shares[0] == 0 and shares[1:] == pytest.approx(1 / (count - 1), abs=0.05)


def test_scans_that_are_no_numbers_are_a_sentence(explainer: Explainer, dataset: Dataset) -> None:
    scans = [dataset.window("1", "test1", i) for i in range(12)]
    tiny = np.full(scans[3].bold.shape[1], 1e-45, np.float32)
    holes = replace(scans[3], bold=np.full_like(scans[3].bold, np.nan))
    for wrong in (replace(scans[3], run_std=tiny), holes):
        broken = Explainer(explainer.decoder, "1", scans=lambda run, w=wrong: [*scans[:3], w, *scans[4:]])
        with np.errstate(over="ignore"), pytest.raises(MindvizError, match="subject 1: expected finite values, found"):
            broken.maps(scans[:1], "gradient_pattern")


def test_only_the_last_run_is_held(explainer: Explainer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def scans(run: str) -> list[Window]:
        asked.append(run)
        return [replace(dataset.window("1", "test1", i), run=run) for i in range(12)]

    made: list[int] = []
    directions = explainer_module.embedding_directions
    monkeypatch.setattr(explainer_module, "embedding_directions", lambda *a: made.append(1) or directions(*a))
    own = Explainer(explainer.decoder, "1", scans=scans)
    for run in ("a", "a", "b", "a"):
        own.maps(scans(run)[:1], "gradient_pattern")
    assert len(made) == 3 and own._held is not None and own._held[0] == "a"


def test_controls(explainer: Explainer, windows: list[Window]) -> None:
    voxels = len(explainer.data.vertices)
    own = explainer.maps(windows, "integrated_gradients").mean(axis=0)
    uniform = explainer.control("uniform", windows, "integrated_gradients")
    assert np.ptp(uniform) == 0 and uniform[0] == pytest.approx(own.mean(), rel=1e-5)
    untrained = explainer.control("untrained", windows, "integrated_gradients")
    other = Explainer(explainer.decoder, "1", "untrained").maps(windows, "integrated_gradients").mean(axis=0)
    np.testing.assert_allclose(untrained, other, atol=1e-6)
    shuffled = explainer.control("shuffled", windows, "integrated_gradients", seed=3)
    expected = explainer.maps(shuffled_scans(windows, 3), "integrated_gradients").mean(axis=0)
    np.testing.assert_allclose(shuffled, expected, atol=1e-6)
    assert shuffled.shape == untrained.shape == (voxels,)


def _elsewhere(explainer: Explainer) -> parcellations.Parcellation:
    labels = np.ones(59412, np.int16)
    labels[explainer.data.vertices] = 0
    return parcellations.Parcellation("elsewhere", "fsLR-32k", labels, ("", "a"), np.zeros((2, 3), np.float32))


def _other_mesh() -> parcellations.Parcellation:
    labels = np.ones(20484, np.int16)
    return parcellations.Parcellation("other", "fsaverage5", labels, ("", "a"), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e, w: e.maps(w, "saliency"), "a method needs to be one of received, .* found 'saliency'"),
        (lambda e, w: e.maps(w, "rollout", layer=1), "Attention rollout has no layers and heads to choose, found 1"),
        (lambda e, w: e.maps(w, "lesion_patch", head=1), "no layers and heads to choose"),
        (lambda e, w: e.control("shuffled", [*w[:2], replace(w[2], run="o")]), "windows of one run .* found 2 runs"),
        (lambda e, w: e.control("uniform", w, "pattern"), "an activation pattern has no control"),
        (lambda e, w: e.maps(w, "rollout", position=2), r"-1 \(all\) or 0..1, found 2"),
        (lambda e, w: e.maps(w, "lesion_area", position=0), "takes voxels out of all scans of a window at once"),
        (lambda e, w: e.maps(w, "rollout", by=parcellations.load("yeo7")), "found one for rollout"),
        (lambda e, w: e.maps(w, "lesion_area", by=_elsewhere(e)), "expected parcels with voxels of the scans, found"),
        (lambda e, w: e.maps(w, "lesion_area", by=_other_mesh()), "expected one of fsLR-32k, found one of fsaverage5"),
        (lambda e, w: e.maps([]), "expected at least one window, found none"),
        (lambda e, w: e.maps(w, "received", layer=9), "layer needs to be"),
        (lambda e, w: e.by_scan(w, "lesion_area"), "takes a group of voxels out of all scans"),
        (
            lambda e, w: e.control("noise", w),
            "a control needs to be one of untrained, shuffled, uniform, found 'noise'",
        ),
        (lambda e, w: e.control("shuffled", w[:2]), "at least three windows are needed .* found 2"),
    ],
)
def test_what_cannot_be_asked(explainer: Explainer, windows: list[Window], ask, message: str) -> None:
    with pytest.raises(MindvizError, match=message):
        ask(explainer, windows)


def test_windows_of_another_subject_are_refused(explainer: Explainer, dataset: Dataset) -> None:
    with pytest.raises(MindvizError, match="windows of subject 1, found one of subject 2"):
        explainer.maps([dataset.window("2", "test1", 0)])


def test_an_untrained_read_out_says_something_else_of_every_window(tmp_path: Path) -> None:
    """Without random codes it would say the same of all, and every map of it would be made of rounding errors."""
    write_encoder(tmp_path, "", QuestionEncoder(ENCODER))
    untrained, again = (read_encoder(tmp_path, "", "untrained").eval() for _ in range(2))
    windows, mean = torch.randn(6, 2, 40), torch.zeros(2, 40)
    with torch.no_grad():
        assert untrained(windows).std(0).mean() > 1e-3
        assert torch.equal(untrained(windows), again(windows))
    np.testing.assert_allclose(integrated_gradients(untrained, windows, mean, 64).sum((1, 2)), 1, atol=0.05)
    blank = QuestionEncoder(ENCODER).eval()  # no codes
    with pytest.raises(MindvizError, match="found one at the same place"):
        integrated_gradients(blank, windows, mean)
