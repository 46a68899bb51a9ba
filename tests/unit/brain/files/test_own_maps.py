"""Maps and parcellations of other programs: files of nibabel or ours read back equal; bad files are refused."""

from __future__ import annotations

import hashlib
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import gifti as nib_gifti
from support.brain_files import write_func

from mindviz.brain import cortex_index, from_cortex, load_map, load_parcellation, to_cortex, write_gifti
from mindviz.brain.files.annot import load_annot
from mindviz.brain.files.cifti_maps import write_dscalar
from mindviz.types import MindvizError, SurfaceMap

FSLR, FSAVERAGE5 = 32492, 10242
LEFT, RIGHT = cortex_index("fsLR-32k")
NAMES = {1: "V1", 2: "MT", 7: "A1"}
COLORS = {1: (1.0, 0.0, 0.0), 2: (0.0, 1.0, 0.0), 7: (0.0, 0.0, 1.0)}


def write_labels(path: Path, keys: np.ndarray, names: dict[int, str] = NAMES, side: str = "") -> Path:
    table = nib_gifti.GiftiLabelTable()
    for key, name in {0: "???", **names}.items():
        red, green, blue = COLORS.get(key, (0.5, 0.5, 0.5))
        label = nib_gifti.GiftiLabel(key, red, green, blue, 1.0)
        label.label = name
        table.labels.append(label)
    array = nib_gifti.GiftiDataArray(keys.astype(np.int32), intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
    meta = nib_gifti.GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side}"} if side else {})
    nib.save(nib.GiftiImage(darrays=[array], labeltable=table, meta=meta), path)
    return path


def write_annot(path: Path, places: np.ndarray, names: list[str]) -> Path:
    """`places` index the names; -1 means no label."""
    rgbt = np.array([[10 * i + 5, 200 - i, i, 0, 0] for i in range(len(names))])
    nib.freesurfer.write_annot(path, places, rgbt, names, fill_ctab=True)
    return path


def write_dlabel(path: Path, keys: np.ndarray, subcortex: int = 0, names: dict[int, str] = NAMES) -> Path:
    structures = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")
    models = [
        nib.cifti2.BrainModelAxis.from_surface(v, FSLR, s) for v, s in zip((LEFT, RIGHT), structures, strict=True)
    ]
    axis = models[0] + models[1]
    if subcortex:
        mask = np.zeros((40, 40, 40), bool)
        mask.ravel()[:subcortex] = True
        axis = axis + nib.cifti2.BrainModelAxis.from_mask(mask, "CIFTI_STRUCTURE_THALAMUS_LEFT", np.eye(4))
    table = {0: ("???", (0, 0, 0, 0)), **{key: (name, (*COLORS.get(key, (1, 1, 1)), 1)) for key, name in names.items()}}
    values = np.concatenate([keys, np.full(subcortex, 2)]).astype(np.float32)[None]
    nib.save(nib.Cifti2Image(values, (nib.cifti2.LabelAxis(["areas"], [table]), axis)), path)
    return path


def keys_of(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 2, 7], size)


# ---------------------------------------------------------------------- maps
def test_maps_that_we_write_read_back_equal(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(59412).astype(np.float32)
    values[::7] = np.nan
    surface = from_cortex(values, label="attention")
    left, right = write_gifti(surface, tmp_path, "map")
    for found in (
        load_map(left, right),
        load_map(right, left),
        load_map(write_dscalar(surface, tmp_path / "m.dscalar.nii")),
    ):
        np.testing.assert_array_equal(to_cortex(found), values)
        np.testing.assert_array_equal(found.left, surface.left)
        assert (found.mesh, found.label) == ("fsLR-32k", "attention")
    alone = load_map(right)
    assert np.isnan(alone.left).all()
    np.testing.assert_array_equal(alone.right, surface.right)


@pytest.mark.parametrize("ending", [".func.gii", ".shape.gii"])
@pytest.mark.parametrize(("size", "mesh"), [(FSLR, "fsLR-32k"), (FSAVERAGE5, "fsaverage5")])
def test_maps_that_nibabel_writes_read_back_equal(tmp_path: Path, ending: str, size: int, mesh: str) -> None:
    rng = np.random.default_rng(1)
    left, right, second = (rng.standard_normal(size).astype(np.float32) for _ in range(3))
    one = write_func(tmp_path / f"a{ending}", left, second, side="Left")
    two = write_func(tmp_path / f"b{ending}", right, side="Right")
    found, index = load_map(two, one), cortex_index(mesh)
    assert found.mesh == mesh
    np.testing.assert_array_equal(found.left[index[0]], left[index[0]])
    np.testing.assert_array_equal(found.right[index[1]], right[index[1]])
    np.testing.assert_array_equal(load_map(one, row=1).left[index[0]], second[index[0]])
    if mesh == "fsLR-32k":
        assert np.isnan(np.delete(found.left, index[0])).all()  # the medial wall


def test_hemispheres_are_identified_by_file_name_and_then_by_order(tmp_path: Path) -> None:
    ones, twos = np.ones(FSAVERAGE5, np.float32), np.full(FSAVERAGE5, 2, np.float32)
    for first, second in (
        ("sub.L.func.gii", "sub.R.func.gii"),
        ("lh.thick.shape.gii", "rh.thick.shape.gii"),
        ("x_hemi-L_y.func.gii", "x_hemi-R_y.func.gii"),
        ("a.func.gii", "b.func.gii"),
    ):
        paths = write_func(tmp_path / first, ones), write_func(tmp_path / second, twos)
        found = load_map(*paths)
        assert (found.left == 1).all() and (found.right == 2).all()
        turned = load_map(*paths[::-1])
        assert (turned.left == (2 if first == "a.func.gii" else 1)).all()
    with pytest.raises(MindvizError, match=r"a\.func\.gii: expected a name or metadata with the hemi"):
        load_map(tmp_path / "a.func.gii")


# ---------------------------------------------------------------------- parcellations
def test_labels_of_one_name_in_two_gifti_files_are_one_parcel(tmp_path: Path) -> None:
    """Their keys may differ."""
    left, right = keys_of(FSLR), keys_of(FSLR, 1)
    other = {1: "MT", 2: "V1", 7: "V9"}
    paths = (
        write_labels(tmp_path / "a.label.gii", left, side="Left"),
        write_labels(tmp_path / "b.label.gii", right, other, side="Right"),
    )
    found = load_parcellation(*paths)
    assert found.mesh == "fsLR-32k" and found.names == ("", "V1", "MT", "A1", "V9")
    expected = [NAMES.get(k, "") for k in left[LEFT]] + [other.get(k, "") for k in right[RIGHT]]
    assert [found.names[i] for i in found.labels] == expected
    np.testing.assert_allclose(found.colors[1:4], [COLORS[1], COLORS[2], COLORS[7]])
    half = load_parcellation(paths[1])
    assert not half.labels[: len(LEFT)].any() and set(half.names) == {"", "MT", "V1", "V9"}


def test_annotations_are_read_as_nibabel_reads_them(tmp_path: Path) -> None:
    names = ["unknown", "calcarine", "cuneus", "Medial_wall", "never"]
    places = np.random.default_rng(0).integers(-1, 4, FSAVERAGE5)
    paths = [
        write_annot(tmp_path / f"{side}.areas.annot", np.roll(places, i), names) for i, side in enumerate(("lh", "rh"))
    ]
    found = load_parcellation(*paths)
    assert found.mesh == "fsaverage5" and set(found.names) == {"", "calcarine", "cuneus"}
    said = np.concatenate([nib.freesurfer.read_annot(path)[0] for path in paths])
    expected = [names[i] if i in (1, 2) else "" for i in said]
    assert [found.names[i] for i in found.labels] == expected
    np.testing.assert_allclose(found.colors[found.index("cuneus")] * 255, [25, 198, 2], atol=1e-4)


def test_an_annotation_of_the_old_version_with_keys_missing_from_its_table(tmp_path: Path) -> None:
    def text(said: str) -> bytes:
        return struct.pack(">i", len(said) + 1) + said.encode() + b"\0"

    keys = np.full(FSAVERAGE5, 5 + (6 << 8))
    keys[:9], keys[9:20] = 77, 1
    pairs = np.stack([np.arange(FSAVERAGE5), keys], 1)[::-1].astype(">i4").tobytes()  # in any order
    table = struct.pack(">ii", 1, 2) + text("old.ctab")
    table += text("first") + struct.pack(">4i", 1, 0, 0, 0) + text("second") + struct.pack(">4i", 5, 6, 0, 0)
    path = tmp_path / "lh.old.annot"
    path.write_bytes(struct.pack(">i", FSAVERAGE5) + pairs + table)
    found = load_parcellation(path)
    assert sorted(found.names) == ["", "first", "label 77", "second"]
    counts = {name: int((found.labels == i).sum()) for i, name in enumerate(found.names) if name}
    assert counts == {"first": 11, "label 77": 9, "second": FSAVERAGE5 - 20}


@pytest.mark.parametrize("subcortex", [0, 91282 - 59412])
def test_dlabel_files_of_the_cortex_or_of_all_grayordinates_are_read(tmp_path: Path, subcortex: int) -> None:
    keys = keys_of(59412)
    found = load_parcellation(write_dlabel(tmp_path / "areas.dlabel.nii", keys, subcortex))
    assert found.mesh == "fsLR-32k" and found.name == "areas.dlabel.nii"
    assert [found.names[i] for i in found.labels] == [NAMES.get(k, "") for k in keys]
    np.testing.assert_allclose(found.colors[found.index("A1")], COLORS[7])


def test_two_labels_of_one_name_stay_two_parcels(tmp_path: Path) -> None:
    found = load_parcellation(write_dlabel(tmp_path / "x.dlabel.nii", keys_of(59412), names={1: "V", 2: "V", 7: "A"}))
    assert found.names == ("", "V", "V (2)", "A")


def test_keys_below_1_denote_no_parcel(tmp_path: Path) -> None:
    """Whether or not the table names them; in an annotation, -1 is not a colour."""
    keys, names = np.resize([-1, 0, 1, 2, -7], FSLR), {-1: "no", **NAMES}
    found = [
        load_parcellation(write_labels(tmp_path / "lh.x.label.gii", keys, names)),
        load_parcellation(write_dlabel(tmp_path / "x.dlabel.nii", np.resize(keys, 59412), names=names)),
    ]
    assert all(one.names == ("", "V1", "MT") for one in found)
    np.testing.assert_array_equal(found[0].labels[: len(LEFT)], keys.clip(0)[LEFT])
    np.testing.assert_array_equal(found[1].labels, np.resize(keys, 59412).clip(0))
    path = write_annot(tmp_path / "lh.x.annot", np.resize([0, 1], FSAVERAGE5), ["a", "b"])
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack(">i", -1)
    path.write_bytes(content)
    annot = load_parcellation(path)
    assert annot.names == ("", "a", "b") and annot.labels[0] == 0 and annot.labels[1:4].tolist() == [2, 1, 2]


@pytest.mark.parametrize("name", ["???", "L_???", "Unassigned", "None", "MedialWall", "unknown", " Medial_Wall "])
def test_labels_with_names_such_as_unknown_are_no_parcels(tmp_path: Path, name: str) -> None:
    found = load_parcellation(write_dlabel(tmp_path / "x.dlabel.nii", keys_of(59412), names={**NAMES, 2: name}))
    assert found.names == ("", "V1", "A1")


def test_thousands_of_labels_are_read_quickly(tmp_path: Path) -> None:
    """32,000 took half a minute when each was searched for among all others."""
    keys = np.resize(np.arange(32_000), 59412)
    path = write_dlabel(tmp_path / "x.dlabel.nii", keys, names={k: f"parcel {k}" for k in range(1, 32_000)})
    start = time.process_time()
    found = load_parcellation(path)
    assert time.process_time() - start < 10
    assert len(found.names) == 32_000 and [found.names[i] for i in found.labels[5:8]] == [
        "parcel 5",
        "parcel 6",
        "parcel 7",
    ]
    write_dlabel(path, np.arange(59412), names={})
    with pytest.raises(MindvizError, match=r"x\.dlabel\.nii: expected at most 32,767 labels, found 59,412"):
        load_parcellation(path)


def test_a_parcellation_names_its_files_and_their_hashes(tmp_path: Path) -> None:
    paths = [write_labels(tmp_path / f"{side}.x.label.gii", keys_of(FSLR, i)) for i, side in enumerate(("lh", "rh"))]
    found = load_parcellation(*paths)
    assert found.name == "lh.x.label.gii + rh.x.label.gii"
    assert found.files == tuple((p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in paths)
    assert load_parcellation(paths[1]).files == found.files[1:]


# ---------------------------------------------------------------------- what is refused
def test_a_map_on_an_unknown_mesh_is_refused(tmp_path: Path) -> None:
    wrong = write_func(tmp_path / "lh.func.gii", np.zeros(163842, np.float32))
    with pytest.raises(
        MindvizError,
        match=r"lh\.func\.gii: expected a hemisphere of 32,492 vertices \(fsLR-32k\) or 10,242 vertices "
        r"\(fsaverage5\), found 163,842",
    ):
        load_map(wrong)
    right = write_func(tmp_path / "rh.func.gii", np.zeros(FSLR, np.float32))
    left = write_func(tmp_path / "lh.func.gii", np.zeros(FSAVERAGE5, np.float32))
    with pytest.raises(MindvizError, match=r"rh\.func\.gii: expected 10,242 vertices like .*, found 32,492"):
        load_map(left, right)
    with pytest.raises(MindvizError, match="expected the right hemisphere, found another left one"):
        load_map(left, left)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    func = write_func(tmp_path / "lh.func.gii", np.zeros(FSLR, np.float32))
    label = write_labels(tmp_path / "lh.label.gii", keys_of(FSLR))
    for ask, said in (
        (lambda: load_map(label), r"expected a file that ends in \.func\.gii, .* found a parcellation"),
        (lambda: load_parcellation(func), r"expected a file that ends in \.label\.gii, .* found a map"),
        (lambda: load_map(tmp_path / "map.nii"), "found another"),
        (lambda: load_map(), "found none"),
        (lambda: load_map(func, func, func), "expected the two hemispheres in files of one kind .* found 3 files"),
        (lambda: load_map(func, tmp_path / "rh.shape.gii"), "of one kind"),
        (lambda: load_parcellation(*[tmp_path / "x.dlabel.nii"] * 2), "expected one file"),
        (lambda: load_map(tmp_path / "no.func.gii"), "found nothing"),
        (lambda: load_parcellation(tmp_path / "no.annot"), "found nothing"),
        (lambda: load_map(func, row=1), "expected a map from 0 to 0, found 1"),
        (lambda: load_map(tmp_path / "x.dscalar.nii.gz"), "found a compressed one: decompress it first"),
        (lambda: load_parcellation(tmp_path / "x.dlabel.nii.gz"), "found a compressed one: decompress it first"),
        (lambda: load_parcellation(tmp_path / "lh.x.annot.gz"), "found a compressed one: decompress it first"),
    ):
        with pytest.raises(MindvizError, match=said):
            ask()


def test_a_time_series_is_refused_as_a_map(tmp_path: Path) -> None:
    series = write_func(tmp_path / "lh.func.gii", np.zeros((FSAVERAGE5, 2), np.float32))
    with pytest.raises(MindvizError, match=r"expected one value per vertex, found an array of shape \(10242, 2\)"):
        load_map(series)


@pytest.mark.parametrize(("keys", "said"), [(np.zeros(59412), "found none"), (np.full(59412, 2), r"found one \(MT\)")])
def test_an_empty_or_single_label_parcellation_is_refused(tmp_path: Path, keys: np.ndarray, said: str) -> None:
    for path in (
        write_dlabel(tmp_path / "x.dlabel.nii", keys),
        write_labels(tmp_path / "lh.label.gii", np.resize(keys, FSLR)),
    ):
        with pytest.raises(MindvizError, match=rf"{path.name}: expected a parcellation of at least two .*{said}"):
            load_parcellation(path)
    names = ["unknown", "cuneus"]
    annot = write_annot(tmp_path / "lh.x.annot", np.full(FSAVERAGE5, int(keys.max() > 0)), names)
    with pytest.raises(MindvizError, match=said.replace("MT", "cuneus")):
        load_parcellation(annot)


def test_labels_that_are_not_whole_numbers_are_refused(tmp_path: Path) -> None:
    for wrong in (1.5, 1e30, np.nan):
        path = write_func(tmp_path / "lh.label.gii", np.full(FSLR, wrong, np.float32))
        with pytest.raises(MindvizError, match="expected whole numbers as labels"):
            load_parcellation(path)


@pytest.mark.parametrize("ending", [".func.gii", ".shape.gii", ".label.gii"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('Encoding="GZipBase64Binary"', 'Encoding="ExternalFileBinary"'),
        lambda text: text.replace('ExternalFileName=""', 'ExternalFileName="/etc/passwd"'),
        lambda text: text.replace("<GIFTI", '<!DOCTYPE x SYSTEM "file:///etc/passwd">\n<GIFTI', 1),
        lambda text: text.replace("<GIFTI", '<!DOCTYPE GIFTI [<!ENTITY a "b">]>\n<GIFTI', 1),
    ],
    ids=["external", "named", "doctype", "entity"],
)
def test_unsafe_gifti_is_refused_before_nibabel_loads_it(tmp_path, monkeypatch, ending, change) -> None:
    path = tmp_path / f"lh{ending}"
    write_labels(path, keys_of(FSAVERAGE5))
    text = path.read_text()
    text = text[: text.index("<!DOCTYPE")] + text[text.index("<GIFTI") :]
    assert change(text) != text
    path.write_text(change(text))
    monkeypatch.setattr(nib_gifti.GiftiImage, "from_bytes", lambda *_: pytest.fail("nibabel was asked"))
    with pytest.raises(MindvizError, match=r"expected a GIFTI file that holds its own data"):
        (load_parcellation if ending == ".label.gii" else load_map)(path)


def test_broken_annotations_are_refused(tmp_path: Path) -> None:
    whole = write_annot(tmp_path / "lh.whole.annot", np.zeros(FSAVERAGE5, int), ["a", "b"]).read_bytes()
    pairs = 4 + 8 * FSAVERAGE5
    cases = {
        "ends too early": whole[:-9],
        "ends too soon": whole[:pairs] + struct.pack(">i", 1) + struct.pack(">iii", -2, 5, 2**30),
        "no table": whole[:pairs],
        "none there": whole[:pairs] + struct.pack(">i", 0),
        "version": whole[:pairs] + struct.pack(">ii", 1, -7),
        "count": struct.pack(">i", -3),
        "empty": b"",
        "order": struct.pack(">i", 2) + struct.pack(">4i", 5, 1, 5, 1) + whole[pairs:],
    }
    for name, content in cases.items():
        path = tmp_path / "lh.broken.annot"
        path.write_bytes(content)
        with pytest.raises(MindvizError, match=r"lh\.broken\.annot: expected a FreeSurfer annotation, found"):
            load_annot(path)
        assert name
    assert load_annot(tmp_path / "lh.whole.annot").keys.shape == (FSAVERAGE5,)


def test_cifti_on_another_mesh_is_refused(tmp_path: Path) -> None:
    axis = nib.cifti2.BrainModelAxis.from_surface(np.arange(100), 163842, "CIFTI_STRUCTURE_CORTEX_LEFT")
    path = tmp_path / "other.dscalar.nii"
    nib.save(nib.Cifti2Image(np.zeros((1, 100), np.float32), (nib.cifti2.ScalarAxis(["x"]), axis)), path)
    with pytest.raises(MindvizError, match=r"other\.dscalar\.nii: expected 32492 vertices .* found 163842"):
        load_map(path)


def test_an_imported_map_can_be_written_again(tmp_path: Path) -> None:
    half = np.linspace(0, 1, FSAVERAGE5, dtype=np.float32)
    paths = write_gifti(SurfaceMap(half, half[::-1], "fsaverage5", "x"), tmp_path, "a")
    again = write_gifti(load_map(*paths), tmp_path, "b")
    np.testing.assert_array_equal(load_map(*again).right, half[::-1])
