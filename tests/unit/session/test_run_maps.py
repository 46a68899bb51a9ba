"""`python -m mindviz map`: the map of a scan or of a run as files, positions, parcels of one's own, cancelling."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.brain_files import dlabel

from mindviz import cli, session
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS
from mindviz.brain import cortex_index, load_map, parcellations, to_cortex
from mindviz.brain.files.cifti_maps import load_dscalar
from mindviz.session import map_choice, map_export
from mindviz.session.map_request import MapRequest
from mindviz.session.run_maps import save_map
from mindviz.session.scans import Scans
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError, SamplingSettings


@pytest.fixture(scope="module")
def opened(tiny_dataset: Path, tiny_checkpoint: Path) -> Workspace:
    return session.open(tiny_dataset, tiny_checkpoint)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of nothing and a page of a word, which take no time."""
    monkeypatch.setattr(map_export, "plot_cortex", lambda *_, **__: Figure(figsize=(1, 1), dpi=20))
    monkeypatch.setattr(map_export, "standalone_page", lambda *_, **__: "page")


def written(folder: Path, opened: Workspace, bare: int = 0) -> np.ndarray:
    """The map at the voxels, of which `bare` have no value, as has all else."""
    values = to_cortex(load_dscalar(folder / "map.dscalar.nii"))
    vertices = opened.dataset.run("1", "test1").vertices
    assert np.isfinite(values).sum() == len(vertices) - bare
    return values[vertices]


def command(dataset: Path, out: Path, *more: object) -> list[str]:
    return ["map", "--data", str(dataset), "--subject", "1", "--out", str(out), *map(str, more)]


# ---------------------------------------------------------------------- what is written
def test_a_scan_is_written_as_the_app_writes_it(opened: Workspace, tmp_path: Path) -> None:
    """The same files and values as "Save this map" of the decoded scan; no decoding, so no seed and no settings."""
    choice = map_choice.choose("received", 1, 2, "untrained")
    assert save_map(opened, Scans("1", "test1", 3), choice, tmp_path / "new") == tmp_path / "new" / "map.json"
    decoded = opened.decode("1", "test1", 3, SamplingSettings(1, 1.0, 11))
    map_export.export_map(opened, decoded, tmp_path / "app", MapRequest(choice))
    assert {p.name for p in (tmp_path / "new").iterdir()} == {p.name for p in (tmp_path / "app").iterdir()}
    np.testing.assert_allclose(written(tmp_path / "new", opened), written(tmp_path / "app", opened), atol=1e-5)
    told, theirs = (json.loads((tmp_path / name / "map.json").read_text()) for name in ("new", "app"))
    assert set(theirs) - set(told) == {"seed", "settings", "provenance"}
    assert all(told[key] == theirs[key] for key in told)
    for name in ("map.svg", "map.html"):
        assert "subject 1, test1, scan 3" in (tmp_path / "new" / name).read_text()


@pytest.mark.parametrize("control", ["", "uniform", "untrained", "shuffled"])
def test_a_run_is_the_mean_over_its_scans(opened: Workspace, tmp_path: Path, quick, control: str) -> None:
    scans, choice = Scans("1", "test1"), map_choice.choose("gradient_pattern", control=control)
    save_map(opened, scans, choice, tmp_path / "map")
    explainer, windows = opened.explainer("1"), scans.windows(opened)
    assert len(windows) == 12
    expected = np.mean([explainer.map(w, "gradient_pattern").values for w in windows], axis=0)
    if control:
        expected = expected - explainer.control(control, windows, "gradient_pattern")
    np.testing.assert_allclose(written(tmp_path / "map", opened), expected, atol=1e-4)
    told = json.loads((tmp_path / "map" / "map.json").read_text())
    assert told["scan"] == {
        "subject": "1",
        "run": "test1",
        "index": None,
        "scans": 12,
        "film_seconds": [0.0, 24.0],
        "clamped": 3,
    }
    assert told["map"]["method"] == "gradient_pattern" and told["map"]["control"] == (control or None)


def test_pictures_of_a_run_say_so(opened: Workspace, tmp_path: Path) -> None:
    save_map(opened, Scans("1", "test1"), map_choice.choose("rollout"), tmp_path / "map")
    for name in ("map.svg", "map.html"):
        assert "subject 1, test1, mean of 12 scans" in (tmp_path / "map" / name).read_text()


@pytest.mark.parametrize("method", ["received", "integrated_gradients"])
def test_one_scan_of_the_window(opened: Workspace, tmp_path: Path, quick, method: str) -> None:
    choice = map_choice.choose(method, position=1)
    save_map(opened, Scans("1", "test1", 4), choice, tmp_path / "map")
    window = opened.dataset.window("1", "test1", 4)
    expected = np.abs(opened.explainer("1").by_scan([window], method)[0, 1])
    np.testing.assert_allclose(written(tmp_path / "map", opened), expected, atol=1e-5)
    told = json.loads((tmp_path / "map" / "map.json").read_text())["map"]
    assert told["position"] == 1 and "second scan of the window" in told["label"]
    decoded = opened.decode("1", "test1", 4, SamplingSettings(1, 1.0, 11))
    np.testing.assert_allclose(opened.attribution(decoded, choice).values, expected, atol=1e-5)
    path = map_export.zip_map(opened, decoded, tmp_path, MapRequest(choice))
    assert path.name.endswith("_position-2.zip")


def test_positions_that_can_be_chosen() -> None:
    both, first, second = (f"{which} of the window" for which in ("both scans", "first scan", "second scan"))
    assert map_choice.position_choices("received", 2) == [(both, -1), (first, 0), (second, 1)]
    assert map_choice.position_choices("lesion_area", 2) == [("both scans of the window", -1)]
    assert map_choice.position_choices("received", 1) == [("all scans of the window", -1)]
    assert len(map_choice.position_choices("rollout", 8)) == 9
    assert map_choice.choose("lesion_patch", position=1).position == -1  # as layers that a method has not


# ---------------------------------------------------------------------- the command
def test_lesions_by_a_parcellation_of_ones_own(tiny_dataset, opened, tmp_path, capsys, quick) -> None:
    yeo = parcellations.load("yeo7")
    file = dlabel(tmp_path / "mine.dlabel.nii", yeo)
    out = tmp_path / "map"
    assert cli.main(command(tiny_dataset, out, "--scan", 2, "--method", "lesion_area", "--by", file)) == 0
    assert capsys.readouterr().out.strip() == str(out / "map.json")
    window = opened.dataset.window("1", "test1", 2)
    expected = opened.explainer("1").maps([window], "lesion_area", by=yeo)[0]
    bare = yeo.labels[opened.dataset.run("1", "test1").vertices] == 0
    found = written(out, opened, int(bare.sum()))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert bare.any() and np.isnan(found[bare]).all()  # they were never lesioned
    told = json.loads((out / "map.json").read_text())["map"]
    assert told["parcellation"] == "mine.dlabel.nii" and told["label"] == "Lesion of a parcel (mine.dlabel.nii)"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["parcellation_files"] == [{"file": "mine.dlabel.nii", "sha256": digest}]
    table = (out / "parcels.csv").read_text().splitlines()
    counts = {line.split(",")[2]: int(line.split(",")[3]) for line in table if line.startswith("yeo7,")}
    assert sum(counts.values()) == (~bare).sum()


def test_parcels_of_two_files_and_a_uniform_control(tiny_dataset, opened, tmp_path, quick) -> None:
    """Both files are named, and their bytes; what was never lesioned is in no mean."""
    files, yeo = [], parcellations.load("yeo7")
    halves = np.split(yeo.labels, [cortex_index("fsLR-32k")[0].size])
    for side, index, labels in zip("LR", cortex_index("fsLR-32k"), halves, strict=True):
        keys = np.zeros(32492, np.int32)
        keys[index] = labels
        array = nib.gifti.GiftiDataArray(keys, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
        files.append(tmp_path / f"mine.{side}.label.gii")
        nib.save(nib.GiftiImage(darrays=[array]), files[-1])
    out, asked = tmp_path / "map", ["--run", "test1", "--method", "lesion_area", "--control", "uniform"]
    assert cli.main(command(tiny_dataset, out, *asked, "--by", *files)) == 0
    told = json.loads((out / "map.json").read_text())["map"]
    assert told["parcellation"] == "mine.L.label.gii + mine.R.label.gii"
    assert [(f["file"], f["sha256"]) for f in told["parcellation_files"]] == [
        (f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files
    ]
    bare = yeo.labels[opened.dataset.run("1", "test1").vertices] == 0
    found = written(out, opened, int(bare.sum()))
    windows = Scans("1", "test1").windows(opened)
    expected = opened.explainer("1").maps(windows, "lesion_area", by=yeo).mean(axis=0)
    np.testing.assert_allclose(found[~bare], (expected - expected[~bare].mean())[~bare], atol=1e-5)


def test_what_is_written_reads_back_as_a_map_made_elsewhere(tiny_dataset, opened, tmp_path, quick) -> None:
    out = tmp_path / "map"
    assert cli.main(command(tiny_dataset, out, "--run", "test1", "--method", "rollout", "--position", 0)) == 0
    found = load_map(*(out / f"map_hemi-{side}.func.gii" for side in "LR"))
    np.testing.assert_array_equal(to_cortex(found), to_cortex(load_map(out / "map.dscalar.nii")))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--method", "rollout"], "expected --scan N, --run R"),
        (["--method", "saliency", "--scan", 1], "found 'saliency'"),
        (["--method", "rollout", "--scan", 12], "from 0 to 11, found 12"),
        (["--method", "rollout", "--run", "test9"], "found 'test9'"),
        (["--method", "rollout", "--scan", 1, "--control", "noise"], "found 'noise'"),
        (["--method", "rollout", "--scan", 1, "--layer", 0], "has no --layer"),
        (["--method", "received", "--scan", 1, "--layer", 7], "expected a layer from -1 to 1, found 7"),
        (["--method", "received", "--scan", 1, "--position", 2], "-1 (all) or 0..1, found 2"),
        (["--method", "lesion_area", "--scan", 1, "--position", 0], "no --position"),
        (["--method", "rollout", "--scan", 1, "--by", "x.dlabel.nii"], "x.dlabel.nii: expected a CIFTI file"),
        (["--method", "pattern", "--scan", 1, "--control", "uniform"], "has no control"),
        (["--method", "pattern", "--run", "test1", "--control", "uniform"], "has no control"),
        (["--method", "rollout", "--scan", 1, "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(tiny_dataset, tiny_checkpoint, tmp_path, capsys, more, told) -> None:
    assert cli.main(command(tiny_dataset, tmp_path / "out", *more)) == 2
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_kept(tiny_dataset, tiny_checkpoint, tmp_path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.main(command(tiny_dataset, tmp_path, "--scan", 1, "--method", "rollout")) == 2
    assert "thesis.tex" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_parcellation_is_refused_where_no_areas_are_taken_out() -> None:
    with pytest.raises(MindvizError, match="a parcellation is for lesions of areas"):
        map_choice.choose("rollout", parcels=parcellations.load("yeo7"))


@pytest.mark.parametrize("where", ["maps", "control", "writing"])
def test_ctrl_c_leaves_nothing_and_an_earlier_map_as_it_was(
    tiny_dataset, tiny_checkpoint, tmp_path, monkeypatch, capsys, quick, where
) -> None:
    out = tmp_path / "map"
    asked = command(tiny_dataset, out, "--run", "test1", "--method", "rollout", "--control", "shuffled")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert cli.main(asked) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    if where == "writing":
        monkeypatch.setattr(map_export, "save_figure", stop)
    else:
        monkeypatch.setattr(Explainer, where, stop)
    assert cli.main(asked) == 130
    assert "stopped" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before and [p.name for p in tmp_path.iterdir()] == ["map"]


def test_progress_is_shown_of_the_map_and_of_its_control(opened: Workspace, tmp_path: Path, quick) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def shown(what: str):
        seen[what] = []
        return lambda done, total: seen[what].append((done, total))

    choice = map_choice.choose("lesion_patch", control="untrained")
    save_map(opened, Scans("1", "test1"), choice, tmp_path / "map", shown)
    assert set(seen) == {"map", "control"}
    assert all(steps[0][0] == 0 and steps[-1][0] == steps[-1][1] >= 12 for steps in seen.values())


def test_the_help_names_every_method(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["map", "--help"])
    printed = capsys.readouterr().out
    assert all(method in printed for method in METHODS)
