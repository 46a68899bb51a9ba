"""`python -m mindviz map --each`: one map for every scan, read back by nibabel, nilearn and ourselves."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import surface

from mindviz import cli, session
from mindviz.brain import cortex_index, from_cortex, load_map, parcellations, to_cortex, write_gifti_maps
from mindviz.brain.files.cifti_maps import load_dscalar, write_dscalars
from mindviz.progress import no_phases
from mindviz.session import map_choice
from mindviz.session.run_maps import _found
from mindviz.session.scan_maps import EACH_FILES, save_each
from mindviz.session.scans import Scans, each_map
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError, SurfaceMap

RUN = Scans("1", "test1")


@pytest.fixture(scope="module")
def opened(tiny_dataset: Path, tiny_checkpoint: Path) -> Workspace:
    return session.open(tiny_dataset, tiny_checkpoint)


def command(dataset: Path, out: Path, *more: object) -> list[str]:
    return ["map", "--each", "--data", str(dataset), "--subject", "1", "--out", str(out), *map(str, more)]


def test_every_scan_s_map_is_read_back(opened: Workspace, tiny_dataset: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "maps"
    assert cli.main(command(tiny_dataset, out, "--method", "received", "--layer", 1, "--head", 2)) == 0
    assert capsys.readouterr().out.strip() == str(out / "maps.json")
    assert sorted(p.name for p in out.iterdir()) == sorted(EACH_FILES) and list(tmp_path.iterdir()) == [out]
    vertices = opened.dataset.run("1", "test1").vertices
    pair = [out / f"maps_hemi-{side}.func.gii" for side in "LR"]
    images = [nib.load(path) for path in pair]
    cifti = nib.load(out / "maps.dscalar.nii")
    assert cifti.shape == (12, 59412) and [len(image.darrays) for image in images] == [12, 12]
    for i in range(12):
        window = opened.dataset.window("1", "test1", i)
        expected = np.full(59412, np.nan, np.float32)
        expected[vertices] = opened.explainer("1").map(window, "received", 1, 2).values
        np.testing.assert_allclose(np.asarray(cifti.dataobj)[i], expected, atol=1e-5)
        named = f"Attention received (layer 2, head 3), scan {i}"
        for found, label in (
            (load_dscalar(out / "maps.dscalar.nii", i), f"Simulated: {named}"),
            (load_map(*pair, row=i), named),
        ):
            np.testing.assert_array_equal(to_cortex(found), np.asarray(cifti.dataobj)[i])
            assert found.label == label
    theirs = [surface.load_surf_data(path) for path in pair]  # nilearn: (vertices, maps)
    for image, found, index in zip(images, theirs, cortex_index("fsLR-32k"), strict=True):
        assert found.shape == (32492, 12)
        np.testing.assert_array_equal(found.T, [array.data for array in image.darrays])
        assert np.isnan(np.delete(found, index, axis=0)).all()
    told = json.loads((out / "maps.json").read_text())
    assert told["files"] == list(EACH_FILES) and told["simulated"]
    assert told["scan"] == {
        "subject": "1",
        "run": "test1",
        "index": None,
        "scans": 12,
        "seconds_of_film_per_scan": 2.0,
        "clamped": [9, 10, 11],
    }
    assert "not importance" in told["map"]["caution"] and images[0].meta["Caution"] == told["map"]["caution"]


@pytest.mark.parametrize("control", ["", "uniform", "untrained", "shuffled"])
@pytest.mark.parametrize("method", ["rollout", "gradient_pattern"])
def test_their_mean_is_the_map_of_the_run(opened: Workspace, method: str, control: str) -> None:
    choice, shown = map_choice.choose(method, control=control), []
    found = each_map(opened, RUN, choice, phases=lambda what: shown.append(what) or (lambda *_: None))
    expected = _found(opened, RUN, RUN.windows(opened), choice, no_phases).values
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=2e-5)
    assert np.ptp(found, axis=0).max() > 0, "scans differ"
    assert shown == ["map", *(["control"] if control in ("untrained", "shuffled") else [])]


def test_a_lesion_by_parcels_of_one_s_own_keeps_what_was_not_tried_bare(opened: Workspace, tmp_path: Path) -> None:
    parcels = parcellations.load("yeo7")
    some = parcellations.Parcellation(
        "two",
        "fsLR-32k",
        np.where(parcels.labels > 2, 0, parcels.labels).astype(np.int16),
        parcels.names[:3],
        parcels.colors[:3],
    )
    choice = map_choice.choose("lesion_area", control="uniform", parcels=some)
    save_each(opened, RUN, choice, tmp_path / "maps")
    found = np.asarray(nib.load(tmp_path / "maps" / "maps.dscalar.nii").dataobj)
    tried = np.intersect1d(np.flatnonzero(some.labels), opened.dataset.run("1", "test1").vertices)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found).all(axis=0)), tried)
    np.testing.assert_allclose(np.nanmean(found, axis=1), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--method", "pattern"), "an activation pattern is the same for every scan"),
        (("--method", "rollout", "--scan", 3), "expected no one scan, found 3"),
        (("--method", "received", "--layer", 9), "expected a layer from -1 to 1, found 9"),
        (("--method", "rollout", "--run", "test9"), "found 'test9'"),
    ],
)
def test_what_has_no_map_for_each_scan_is_a_sentence(
    tiny_dataset, tiny_checkpoint, tmp_path, capsys, more, told
) -> None:
    assert cli.main(command(tiny_dataset, tmp_path / "out", *more)) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_with_a_map_of_another_kind_is_not_replaced(opened: Workspace, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text("mine")
    with pytest.raises(MindvizError, match=r"other files in it \(map.json\)"):
        save_each(opened, RUN, map_choice.choose("rollout"), tmp_path)
    assert (tmp_path / "map.json").read_text() == "mine"


def test_stopped_it_leaves_nothing_behind(opened: Workspace, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_each(opened, RUN, map_choice.choose("rollout"), tmp_path / "maps", phases=lambda what: stop)
    assert list(tmp_path.iterdir()) == []


def test_maps_on_several_meshes_or_none_are_refused(tmp_path: Path) -> None:
    here = from_cortex(np.zeros(59412, np.float32))
    there = SurfaceMap(np.zeros(10242), np.zeros(10242), "fsaverage5")
    with pytest.raises(MindvizError, match="maps on one mesh, found fsLR-32k and fsaverage5"):
        write_gifti_maps([here, there], tmp_path, "maps")
    with pytest.raises(MindvizError, match="maps on one mesh, found no map"):
        write_dscalars([], tmp_path / "maps.dscalar.nii")
    with pytest.raises(MindvizError, match="CIFTI needs a map on fsLR-32k, found one on fsaverage5"):
        write_dscalars([there, there], tmp_path / "maps.dscalar.nii")
    assert list(tmp_path.iterdir()) == []
