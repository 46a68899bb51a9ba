"""`python -m mindviz lesion`: the table, the film, where they come from, and what is refused before any work."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support.lesioned import write_lesioned

from mindviz import cli, session, video
from mindviz.attribution.lesion import CAUTION, groups_of
from mindviz.brain import parcellations
from mindviz.session import lesion_files
from mindviz.session.lesion_files import COLUMNS, LESION_FILES, save_lesions
from mindviz.session.lesions import Lesions
from mindviz.session.scans import Scans
from mindviz.types import MindvizError, SamplingSettings, VideoClip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, tiny_checkpoint: Path) -> Path:
    return write_lesioned(tmp_path_factory.mktemp("lesioned") / "data", tiny_dataset, tiny_checkpoint)


def command(data: Path, out: Path, *more: object, subject: str = "1", scan: int = 5) -> list[str]:
    where = ["--data", data, "--subject", subject, "--scan", scan, "--out", out]
    return ["lesion", *map(str, where), *map(str, more)]


@pytest.fixture(scope="module")
def written(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "lesion"
    assert cli.main(command(home, out, "--by", "yeo7", "--top", 2, "--steps", 2, "--seed", 11)) == 0
    return out


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "lesion.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_group_and_figures_of_those_painted(written: Path, home: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == sorted(LESION_FILES)
    assert [p.name for p in written.parent.iterdir()] == ["lesion"]
    found, workspace = rows(written), session.open(home)
    assert tuple(found[0]) == COLUMNS
    groups, window = groups_of(workspace.explainer("1"), "yeo7"), workspace.dataset.window("1", "test1", 5)
    known = Lesions(workspace).losses(window, "yeo7")
    assert sorted(row["name"] for row in found) == sorted(groups.names)
    moved = [float(row["moved"]) for row in found]
    assert moved == sorted(moved, reverse=True)
    intact = workspace.decode("1", "test1", 5, SamplingSettings(2, 2.0, 11))
    for place, row in enumerate(found):
        i = groups.index(row["name"])
        assert int(row["voxels"]) == groups.voxels[i]
        assert float(row["moved"]) == pytest.approx(known.moved[i], rel=1e-4)
        assert (float(row["rank_before"]), float(row["rank_after"])) == (known.rank, known.ranks[i])
        assert row["simulated"] == "yes"
        figures = [row[name] for name in COLUMNS[5:-1]]
        assert all(figures) == any(figures) == (place < 2)
        if place < 2:
            lesions = Lesions(workspace)
            told = lesions.change(lesions.film(intact, known, i), intact)
            expected = (told.ssim_intact, told.rmse_intact, told.ssim_shown)
            assert [float(f) for f in figures] == pytest.approx(expected, rel=1e-3)


def test_the_record_tells_the_baselines_and_the_caution(written: Path) -> None:
    told, found = json.loads((written / "lesion.json").read_text()), rows(written)
    assert told["simulated"] and told["files"] == list(LESION_FILES) and told["seed"] == 11
    assert told["scan"]["index"] == 5 and told["settings"]["num_inference_steps"] == 2
    assert told["lesion"]["by"] == "yeo7" and told["lesion"]["caution"] == CAUTION
    assert told["place_of_truth"]["of"] == 12 and told["place_of_truth"]["chance"] == 6.5
    assert list(told["films"]["without"]) == [row["name"] for row in found[:2]]
    assert 0 < told["films"]["another_seed_and_no_lesion"]["ssim_intact"] < 1
    assert str(written.parent) not in json.dumps(told)


def test_the_film_shows_truth_intact_and_each_lesion_with_labels(written: Path, home: Path) -> None:
    with av.open(str(written / "lesion.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    height, width = frames[0].shape[:2]
    assert width == 8 + 4 * 264 and 256 + 40 < height < 360
    shown = session.open(home).dataset.clip("test1", 5)
    expected = video.resized(shown, 6, (256, 256))[3].astype(float)
    top = next(y for y in range(height - 256) if np.abs(frames[3][y : y + 256, 8:264] - expected).mean() < 4)
    assert (frames[3][:top, :264] < 100).any(), "a label above"
    assert (frames[3][top + 256 :] < 150).any(), "the caution below"
    assert (frames[3][top : top + 256, 264:272] > 245).all(), "a gap between"
    with Image.open(written / "lesion.gif") as gif:
        assert gif.n_frames == 6 and gif.size == (width, height)


def test_parcels_are_named_and_a_parcellation_may_be_one_s_own(home: Path, tmp_path: Path) -> None:
    parcels = parcellations.load("yeo7")
    paths = []
    for side, labels in zip("LR", np.split(parcels.labels, [29696]), strict=True):
        whole = np.zeros(32492, np.int32)
        whole[parcellations.meshes.cortex_index("fsLR-32k")[side == "R"]] = labels
        table = nib.gifti.GiftiLabelTable()
        for i, name in enumerate(parcels.names):
            label = nib.gifti.GiftiLabel(i, 1, 0, 0, 1)
            label.label = name or "???"
            table.labels.append(label)
        array = nib.gifti.GiftiDataArray(whole, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
        paths.append(tmp_path / f"mine.{side}.label.gii")
        image = nib.GiftiImage(darrays=[array], labeltable=table)
        image.meta = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary="CortexLeft" if side == "L" else "CortexRight")
        nib.save(image, paths[-1])
    out = tmp_path / "out"
    assert cli.main(command(home, out, "--by", *paths, "--parcels", "Visual", "--steps", 1)) == 0
    told = json.loads((out / "lesion.json").read_text())
    assert list(told["films"]["without"]) == ["Visual"]
    assert [f["file"] for f in told["lesion"]["parcellation_files"]] == [p.name for p in paths]
    theirs = {row["name"]: row["moved"] for row in rows(out)}
    save_lesions(session.open(home), Scans("1", "test1", 5), "yeo7", tmp_path / "ours", top=0)
    assert theirs == {row["name"]: row["moved"] for row in rows(tmp_path / "ours")}
    assert all(row["ssim_to_intact"] == "" for row in rows(tmp_path / "ours"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("--by", "yeo9"),
            "one of yeo7, yeo17, hcp-mmp, patch or the files of one parcellation, found yeo9, which is not there",
        ),
        (("--by", "yeo7", "--parcels", "Visaul"), "a group of yeo7 that has voxels (Visual, …), found 'Visaul'"),
        (("--by", "patch", "--parcels", "patch 99"), "found 'patch 99'"),
        (("--by", "yeo7", "--top", "-1"), "expected 0 to 24 groups to decode, found -1"),
        (("--by", "yeo7", "--run", "test9"), "found 'test9'"),
        (("--by", "yeo7", "--steps", "0"), "at least 1"),
        (("--by", "yeo7", "--scan", "12"), "0 to 11, found 12"),
        (("--by", "yeo7", "--subject", "9"), "found '9'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(home, tmp_path, capsys, monkeypatch, more, told) -> None:
    for name in ("losses", "film"):
        monkeypatch.setattr(Lesions, name, lambda *_: pytest.fail("it went to work"))
    assert cli.main(command(home, tmp_path / "out", *more)) == 2
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_and_a_checkpoint_without_a_mean_are_refused(
    home: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.main(command(home, tmp_path, "--by", "yeo7")) == 2
    assert "thesis.tex" in capsys.readouterr().err
    workspace = session.open(home)
    monkeypatch.setattr(type(workspace.decoder), "data", lambda *_: None)
    with pytest.raises(MindvizError, match="expected a stored mean scan, found none"):
        save_lesions(workspace, Scans("1", "test1", 5), "yeo7", tmp_path / "out")
    with pytest.raises(MindvizError, match="a lesion is of one scan"):
        save_lesions(workspace, Scans("1", "test1"), "yeo7", tmp_path / "out")


@pytest.mark.parametrize(
    "at", ["Reading the run", "Taking out", "Decoding", "Decoding without", "Decoding with another"]
)
def test_stopped_it_leaves_nothing_behind(home: Path, tmp_path: Path, at: str) -> None:
    def phases(what: str):
        def progress(done: int, total: int) -> None:
            assert 0 <= done <= total
            if what.startswith(at):
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        save_lesions(
            session.open(home),
            Scans("1", "test1", 5),
            "yeo7",
            tmp_path / "out",
            top=1,
            phases=phases,
            settings=SamplingSettings(1, 1.0),
        )
    assert list(tmp_path.iterdir()) == []


def test_without_captions_the_places_are_left_out(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    workspace = session.open(tiny_dataset, tiny_checkpoint)  # without a CLIP
    settings = replace(workspace.decoder.default_settings, num_inference_steps=1)
    path = save_lesions(workspace, Scans("1", "test1", 5), "patch", tmp_path / "out", ["patch 2"], settings=settings)
    told = json.loads(path.read_text())
    assert "has no CLIP" in told["place_of_truth"]["left_out"]
    assert all((row["rank_before"], row["rank_after"]) == ("", "") for row in rows(tmp_path / "out"))
    assert lesion_files.UNITS in told["lesion"]["units"]


# ---------------------------------------------------------------------- the grid
def test_a_grid_has_rows_and_even_sides_and_a_short_clip_holds_its_last_frame() -> None:
    rng = np.random.default_rng(0)
    clips = [VideoClip(rng.integers(0, 9, (n, 16, 24, 3), dtype=np.uint8), 3.0) for n in (2, 4, 4)]
    grid = video.labelled_grid(clips, ["one", "two words that need a line more", "three"], 2, 48, "a note " * 30)
    assert grid.frames.shape[0] == 4 and not any(n % 2 for n in grid.frames.shape[1:3]) and grid.fps == 3.0
    first = grid.frames[:, : grid.frames.shape[1] // 2, 8:56]
    np.testing.assert_array_equal(first[1], first[3])
    assert (grid.frames[0] != grid.frames[1]).any()


@pytest.mark.parametrize(("count", "labels", "fps"), [(0, 0, 3.0), (2, 1, 3.0), (2, 2, 4.0)])
def test_what_makes_no_grid_is_a_sentence(count: int, labels: int, fps: float) -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    clips = [VideoClip(frames, 3.0), VideoClip(frames, fps)][:count]
    with pytest.raises(MindvizError, match=f"a grid needs clips of one rate .* found {count} clips, {labels} labels"):
        video.labelled_grid(clips, ["x"] * labels)
