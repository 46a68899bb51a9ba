"""Saving any map: what is written reads back as the map, the table's numbers are those of a loop, all or nothing."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mindviz import session
from mindviz.attribution.methods import METHODS
from mindviz.brain import cortex_index, from_cortex, load_map, parcellations, to_cortex
from mindviz.brain.files.cifti_maps import load_dscalar
from mindviz.metrics.cortex import map_by_parcel, parcel_summary
from mindviz.session import export, map_choice, map_export
from mindviz.session.map_request import MapRequest
from mindviz.session.workspace import Workspace
from mindviz.types import MindvizError, SamplingSettings, SurfaceMap
from mindviz.ui import brain_panel

SETTINGS = SamplingSettings(1, 1.0, 11)
CHOICES = {"plain": ("received", 1, 2, ""), "signed": ("integrated_gradients", -1, -1, "uniform")}


@pytest.fixture(scope="module")
def opened(tiny_dataset: Path, tiny_checkpoint: Path) -> Workspace:
    return session.open(tiny_dataset, tiny_checkpoint)


@pytest.fixture(scope="module")
def decoded(opened: Workspace):
    return opened.decode("1", "test1", 3, SETTINGS)


@pytest.fixture(scope="module", params=CHOICES)
def written(request, opened: Workspace, decoded, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A map written whole: one that is nowhere negative, and one less its control."""
    folder = tmp_path_factory.mktemp(request.param) / "map"
    assert (
        map_export.export_map(opened, decoded, folder, MapRequest.read(*CHOICES[request.param])) == folder / "map.json"
    )
    return request.param, folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of nothing and a page of a word, which take no time."""
    monkeypatch.setattr(map_export, "plot_cortex", lambda *_, **__: Figure(figsize=(1, 1), dpi=20))
    monkeypatch.setattr(map_export, "standalone_page", lambda *_, **__: "page")


def shown(workspace: Workspace, decoded, kind: str) -> np.ndarray:
    """The map by cortical index, NaN off the voxels, put there by hand."""
    values = np.full(59412, np.nan, np.float32)
    values[workspace.dataset.run("1", "test1").vertices] = workspace.attribution(
        decoded, map_choice.choose(*CHOICES[kind])
    ).values
    return values


# ---------------------------------------------------------------------- round trips
def test_the_files_are_there_and_nothing_else(written) -> None:
    _, folder = written
    assert sorted(path.name for path in folder.iterdir()) == sorted(map_export.MAP_FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["map"]


def test_gifti_holds_the_map_under_the_method_s_name(written, opened, decoded) -> None:
    kind, folder = written
    paths = [folder / f"map_hemi-{side}.func.gii" for side in "LR"]
    expected = shown(opened, decoded, kind)
    # exact where the attention captured with the decoding is shown; gradients are computed anew
    np.testing.assert_allclose(to_cortex(load_map(*paths)), expected, rtol=1e-4 * (kind == "signed"))
    name = {
        "plain": "Attention received (layer 2, head 3)",
        "signed": "Integrated gradients less its mean",
    }[kind]
    for path, vertices, structure in zip(paths, cortex_index("fsLR-32k"), ("Left", "Right"), strict=True):
        image = nib.load(path)
        assert image.darrays[0].meta["Name"] == name
        meta = image.meta
        assert (meta["AnatomicalStructurePrimary"], meta["MeshName"]) == (f"Cortex{structure}", "fsLR-32k")
        assert (meta["Method"], meta["Stage"], meta["Simulated"]) == (CHOICES[kind][0], "full", "true")
        assert meta["Caution"] == opened.caution(CHOICES[kind][0])
        assert ("LayerName" in meta, "Control" in meta) == (kind == "plain", kind == "signed")
        assert np.isnan(np.delete(image.darrays[0].data, vertices)).all()  # the medial wall


def test_cifti_holds_the_same_map(written) -> None:
    _, folder = written
    found = load_dscalar(folder / "map.dscalar.nii")
    expected = to_cortex(load_map(*(folder / f"map_hemi-{side}.func.gii" for side in "LR")))
    np.testing.assert_array_equal(to_cortex(found), expected)
    assert found.label == "Simulated: " + nib.load(folder / "map_hemi-L.func.gii").darrays[0].meta["Name"]
    image = nib.load(folder / "map.dscalar.nii")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[0], expected)


def test_pictures_and_page_say_what_they_show(written) -> None:
    kind, folder = written
    picture = np.asarray(Image.open(folder / "map.png").convert("RGB")).astype(int)
    assert (picture.max(axis=2) - picture.min(axis=2) > 30).sum() > 500, "no colour in the picture"
    name = {"plain": "Attention received (layer 2, head 3)", "signed": "Integrated gradients less its mean"}[kind]
    for text in ((folder / "map.svg").read_text(), (folder / "map.html").read_text()):
        assert name in text and "subject 1, test1, scan 3" in text
    assert "simulated data" in (folder / "map.svg").read_text()
    svg = " ".join((folder / "map.svg").read_text().split())
    assert "Attention is not importance" in svg or "What the decoding of this scan depends on." in svg
    assert ("Zero is its control: the mean of the map over all voxels." in (folder / "map.html").read_text()) == (
        kind == "signed"
    )
    assert METHODS[CHOICES[kind][0]].caution.split(":")[0] in (folder / "map.html").read_text()
    page = (folder / "map.html").read_text()
    told = json.loads(page.split('id="values">')[1].split("</script>")[0])
    assert told["simulated"] and told["signed"] == (kind == "signed")
    assert told["units"] == ("difference" if kind == "signed" else METHODS["received"].units)


def test_the_record_tells_where_the_map_comes_from(written, opened, decoded) -> None:
    kind, folder = written
    told = json.loads((folder / "map.json").read_text())
    assert told["mindviz"] and told["simulated"] is True and told["seed"] == 11 == told["settings"]["seed"]
    assert told["dataset"] == {"name": "tiny", "fingerprint": opened.dataset.fingerprint, "mesh": "fsLR-32k"}
    assert told["checkpoint"]["name"] == "tiny model" and len(told["checkpoint"]["encoder_sha256"]) == 64
    assert (told["scan"]["subject"], told["scan"]["run"], told["scan"]["index"]) == ("1", "test1", 3)
    method, layer, head, control = CHOICES[kind]
    found = told["map"]
    assert (found["method"], found["control"], found["stage"]) == (method, control or None, "full")
    assert (found["layer"], found["head"]) == ((layer, head) if kind == "plain" else (None, None))
    assert found["caution"] == opened.caution(method) and found["units"]
    assert sorted(told["files"]) == sorted(map_export.MAP_FILES)
    assert str(opened.dataset.folder) not in (folder / "map.json").read_text()  # it is handed on


# ---------------------------------------------------------------------- the table
def test_the_table_is_that_of_a_loop(written, opened, decoded) -> None:
    kind, folder = written
    values = shown(opened, decoded, kind).astype(float)
    with (folder / "parcels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == map_export.PARCEL_COLUMNS
    assert [r["parcellation"] for r in rows] == ["yeo7"] * 7 + ["yeo17"] * 17 + ["hcp-mmp"] * 360
    assert {r["simulated"] for r in rows} == {"yes"}
    left = np.arange(59412) < 29696
    for row in rows:
        parcels = parcellations.load(row["parcellation"])
        assert row["hemisphere"] in (("left", "right") if row["parcellation"] == "hcp-mmp" else ("",))
        side = {"left": left, "right": ~left, "": np.ones(59412, bool)}[row["hemisphere"]]
        known = np.isfinite(values) & (parcels.labels > 0)
        own = known & side & (parcels.labels == parcels.names.index(row["parcel"]))
        assert int(row["vertices"]) == own.sum()
        if not own.any():
            assert row["mean"] == row["share"] == row["enrichment"] == ""
            continue
        assert float(row["mean"]) == pytest.approx(values[own].mean(), rel=1e-4, abs=1e-9)
        if kind == "signed":
            assert row["share"] == row["enrichment"] == ""
            continue
        share = values[own].sum() / values[known].sum()
        assert float(row["share"]) == pytest.approx(share, rel=1e-5)
        assert float(row["enrichment"]) == pytest.approx(share / (own.sum() / known.sum()), rel=1e-5)
    assert any(row["vertices"] == "0" for row in rows)


def test_one_map_by_parcel_agrees_with_the_summary_of_many() -> None:
    parcels, rng = parcellations.load("yeo17"), np.random.default_rng(3)
    vertices, values = np.sort(rng.choice(59412, 700, replace=False)), rng.random(700)
    cortex = np.full(59412, np.nan)
    cortex[vertices] = values
    found = map_by_parcel(cortex, parcels)
    many = parcel_summary(np.stack([values] * 2), vertices, parcels, np.arange(2), num=2)
    held = found.counts > 0
    assert tuple(np.array(found.names)[held]) == many.names and found.counts[held].tolist() == many.counts.tolist()
    for part in ("mean", "share", "enrichment"):
        np.testing.assert_allclose(getattr(found, part)[held], getattr(many, part))


def test_a_map_of_another_size_has_no_parcels() -> None:
    with pytest.raises(MindvizError, match="one value for each vertex"):
        map_by_parcel(np.ones(5), parcellations.load("yeo7"))


@pytest.mark.parametrize(("fill", "mean", "enrichment"), [(np.nan, "", ""), (0.0, "0", ""), (2.0, "2", "1")])
def test_the_table_of_a_map_without_values_and_of_a_constant_one(fill, mean, enrichment, tmp_path: Path) -> None:
    map_export.write_parcels(from_cortex(np.full(59412, fill)), tmp_path / "parcels.csv", False)
    with (tmp_path / "parcels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["mean"], r["enrichment"], r["simulated"]) for r in rows} == {(mean, enrichment, "no")}
    assert {r["vertices"] == "0" for r in rows} == {bool(np.isnan(fill))}


# ---------------------------------------------------------------------- odd maps
@pytest.mark.slow
@pytest.mark.parametrize("fill", [np.nan, 0.25])
def test_a_map_without_values_and_a_constant_one_are_written(fill, opened, decoded, tmp_path, monkeypatch) -> None:
    found = opened.attribution(decoded, map_choice.choose())
    constant = replace(found, values=np.full_like(found.values, fill))
    monkeypatch.setattr(Workspace, "attribution", lambda *_: constant)
    map_export.export_map(opened, decoded, tmp_path / "map", MapRequest.read())
    paths = [tmp_path / "map" / f"map_hemi-{side}.func.gii" for side in "LR"]
    values = to_cortex(load_map(*paths))
    assert np.isfinite(values).sum() == (0 if np.isnan(fill) else found.values.size)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "map" / "map.dscalar.nii").dataobj)[0], values)
    note = "no values" if np.isnan(fill) else "constant: 0.25"
    assert note in (tmp_path / "map" / "map.svg").read_text()
    assert json.loads((tmp_path / "map" / "map.json").read_text())["map"]["method"] == "received"


def test_on_fsaverage5_neither_cifti_nor_parcels_are_written(opened, decoded, tmp_path, monkeypatch, quick) -> None:
    half = np.linspace(0, 1, 10242, dtype=np.float32)
    monkeypatch.setattr(Workspace, "surface_map", lambda *a: SurfaceMap(half, half[::-1], "fsaverage5", a[-1]))
    map_export.export_map(opened, decoded, tmp_path / "map", MapRequest.read("rollout"))
    names = sorted(path.name for path in (tmp_path / "map").iterdir())
    assert names == sorted(set(map_export.MAP_FILES) - {"map.dscalar.nii", "parcels.csv"})
    assert sorted(json.loads((tmp_path / "map" / "map.json").read_text())["files"]) == names
    back = load_map(*(tmp_path / "map" / f"map_hemi-{side}.func.gii" for side in "LR"))
    assert back.mesh == "fsaverage5"
    np.testing.assert_array_equal(back.right, half[::-1])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_written_under_its_name(method, opened, decoded, tmp_path, quick) -> None:
    map_export.export_map(opened, decoded, tmp_path / "map", MapRequest.read(method, 0, 1))
    found = load_dscalar(tmp_path / "map" / "map.dscalar.nii")
    where = " (layer 1, head 2)" if METHODS[method].by_layer else ""
    assert found.label == "Simulated: " + METHODS[method].name + where
    layer, head = (0, 1) if METHODS[method].by_layer else (-1, -1)
    values = opened.attribution(decoded, map_choice.choose(method, layer, head)).values
    cortex = to_cortex(found)[opened.dataset.run("1", "test1").vertices]
    np.testing.assert_allclose(cortex, values, rtol=1e-4, atol=1e-6)  # gradients are not bit for bit the same


# ---------------------------------------------------------------------- all or nothing
@pytest.mark.parametrize(
    "writer", ["write_parcels", "save_figure", "brain.write_gifti", "cifti_maps.write_dscalar", "storage.write_json"]
)
def test_a_writer_that_fails_leaves_nothing_behind(writer, opened, decoded, tmp_path, monkeypatch, quick) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    owner, _, name = writer.rpartition(".")
    monkeypatch.setattr(getattr(map_export, owner) if owner else map_export, name, full)
    with pytest.raises(OSError, match="No space left"):
        map_export.export_map(opened, decoded, tmp_path / "map", MapRequest.read())
    with pytest.raises(OSError, match="No space left"):
        map_export.zip_map(opened, decoded, tmp_path, MapRequest.read())
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_map_is_replaced_and_kept_when_a_later_one_fails(opened, decoded, tmp_path, monkeypatch, quick):
    folder = tmp_path / "map"
    map_export.export_map(opened, decoded, folder, MapRequest.read("rollout"))
    map_export.export_map(opened, decoded, folder, MapRequest.read("received"))
    assert json.loads((folder / "map.json").read_text())["map"]["method"] == "received"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(map_export, "save_figure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        map_export.export_map(opened, decoded, folder, MapRequest.read("rollout"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["mine.txt", "result.json", ".hidden"])
def test_a_folder_with_other_files_is_refused(name, opened, decoded, tmp_path, quick) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(MindvizError, match=f"found other files in it \\({name}\\)"):
        map_export.export_map(opened, decoded, tmp_path, MapRequest.read())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (("gradient", -1, -1, ""), "a method needs to be one of received"),
        (("received", -1, -1, "noise"), "a control needs to be one of untrained"),
        (("received", 2, -1, ""), "expected a layer from -1 to 1, found 2"),
        (("received", 0, -2, ""), "expected a head from -1 to 3, found -2"),
        (("pattern", -1, -1, "uniform"), "an activation pattern has no control"),
    ],
)
def test_a_map_that_there_is_not_is_a_sentence(choice, message, opened, decoded, tmp_path, quick) -> None:
    with pytest.raises(MindvizError, match=message):
        map_export.export_map(opened, decoded, tmp_path / "map", MapRequest.read(*choice))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("other", "subject", "method", "control"),
    [
        ("subject:2", "2", "rollout", None),
        ("control:uniform", "1", "rollout", "uniform"),
        ("method:received", "1", "received", None),
    ],
)
def test_the_record_tells_of_the_map_beside_it(other, subject, method, control, opened, decoded, tmp_path, quick):
    request = MapRequest.read("rollout", other=other)
    told = json.loads(map_export.export_map(opened, decoded, tmp_path / "map", request).read_text())
    beside = told["beside"]
    assert (beside["subject"], beside["method"], beside["control"]) == (subject, method, control)
    assert set(told["map"]) <= set(beside) and told["map"]["method"] == "rollout"


# ---------------------------------------------------------------------- the zip
def test_the_zip_holds_the_files_in_a_folder_of_its_name(opened, decoded, tmp_path, quick) -> None:
    path = map_export.zip_map(opened, decoded, tmp_path, MapRequest.read("received", 1, -1, "untrained"))
    assert path == tmp_path / "mindviz_subject-1_test1_scan-3_received_layer-2_less-untrained.zip"
    assert list(tmp_path.iterdir()) == [path]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(f"{path.stem}/{name}" for name in map_export.MAP_FILES)
        told = json.loads(archive.read(f"{path.stem}/map.json"))
    assert (told["map"]["control"], told["map"]["layer"], told["map"]["head_name"]) == ("untrained", 1, "all heads")


def test_names_are_safe_in_any_file_system(decoded) -> None:
    window = replace(decoded.window, subject="../a b", run="süd:1/2")
    found = map_choice.file_stem(window, map_choice.choose("lesion_area"))
    assert found == "mindviz_subject-..-a-b_süd-1-2_scan-3_lesion-area"


def test_the_panel_hands_out_a_zip_that_goes_when_it_was_taken(opened, decoded, quick) -> None:
    handed = brain_panel.saved(opened, decoded, MapRequest.read("rollout"))
    path = Path(next(handed))
    assert zipfile.is_zipfile(path)
    assert list(handed) == [] and not path.parent.exists()
    with pytest.raises(MindvizError, match="decode a scan first"):
        next(brain_panel.saved(opened, None, MapRequest.read("rollout")))


# ---------------------------------------------------------------------- the export of a decoded scan
def test_the_attention_of_a_decoded_scan_names_its_method_too(opened, decoded, tmp_path) -> None:
    export.export(opened, decoded, tmp_path / "out", layer=1)
    image = nib.load(tmp_path / "out" / "attention_hemi-L.func.gii")
    assert image.darrays[0].meta["Name"] == "Attention received (layer 2, all heads)"
    assert image.meta["Method"] == "received" and "not importance" in image.meta["Caution"]
