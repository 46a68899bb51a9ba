"""The whole way without a browser: a scan on disk becomes videos, cortex maps and a record of where they come from."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from mindviz import cli
from mindviz.session import export
from mindviz.session.latest import LatestOnly
from mindviz.types import SamplingSettings
from mindviz.ui import decode_tab
from mindviz.video import read_video


@pytest.fixture(scope="module")
def exported(tiny_dataset, tiny_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("decoded") / "out"
    arguments = f"decode --subject 2 --scan 5 --seed 3 --steps 3 --guidance-scale 1.5 --data {tiny_dataset} --out {out}"
    assert cli.main(arguments.split()) == 0
    return out


def test_everything_is_written_and_nothing_else(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted(export.DECODING_FILES)
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


def test_the_videos_play(exported, workspace):
    truth = read_video(exported / "truth.mp4")
    assert truth.frames.shape == (6, 64, 64, 3) and truth.fps == 3
    shown = workspace.dataset.clip("test1", 5).frames.astype(float)
    assert np.abs(truth.frames - shown).mean() < 8
    assert read_video(exported / "reconstruction.mp4").frames.shape == (6, 64, 64, 3)
    both = read_video(exported / "side_by_side.mp4").frames
    assert both.shape[1] == 64 and both.shape[2] >= 128


def test_the_maps_lie_on_the_voxels_of_the_subject(exported, workspace):
    vertices = workspace.dataset.run("2", "test1").vertices
    sides = [nibabel.load(exported / f"attention_hemi-{side}.func.gii").darrays[0].data for side in "LR"]
    assert [len(side) for side in sides] == [32492, 32492]
    assert sum(int(np.isfinite(side).sum()) for side in sides) == len(vertices)
    assert np.nanmean(np.concatenate(sides)) == pytest.approx(1, abs=0.05)  # attention received; 1 is uniform


def test_the_record_tells_where_everything_comes_from(exported, workspace):
    record = json.loads((exported / "result.json").read_text())
    assert record["simulated"] is True
    assert record["dataset"]["fingerprint"] == workspace.dataset.fingerprint == record["provenance"]["dataset"]
    assert (record["scan"]["subject"], record["scan"]["index"], record["scan"]["film_seconds"]) == ("2", 5, [10, 12])
    assert record["settings"]["seed"] == 3 and record["settings"]["num_inference_steps"] == 3
    assert set(record["timings_seconds"]) == {"encode", "sample", "vae"}
    assert 1 <= record["similarity"]["place_of_truth"]["value"] <= 12
    assert record["attention"]["method"] == "received" and "not importance" in record["attention"]["note"]


def test_the_same_seed_gives_the_same_clip_and_another_another(workspace):
    def frames(seed: int) -> np.ndarray:
        return workspace.decode("1", "test1", 5, SamplingSettings(3, 1.5, seed)).clip.frames

    assert np.array_equal(frames(3), frames(3)) and not np.array_equal(frames(3), frames(4))


def test_decoding_again_replaces_the_earlier_result(exported, tiny_dataset):
    before = (exported / "result.json").read_text()
    arguments = f"decode --subject 1 --scan 0 --steps 2 --data {tiny_dataset} --out {exported}"
    assert cli.main(arguments.split()) == 0
    assert sorted(path.name for path in exported.iterdir()) == sorted(export.DECODING_FILES)
    assert (exported / "result.json").read_text() != before


def test_an_interrupted_export_leaves_nothing(workspace, tmp_path, monkeypatch):
    decoded = workspace.decode("1", "test1", 1, SamplingSettings(2, 1.5))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr(export.storage, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        export.export(workspace, decoded, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Request:
    session_hash = "one"


def shown(tab):
    """What a decoding yields, without the first word, which changes nothing."""
    return list(tab.decode(Request()))[1:]


def test_the_tab_shows_steps_and_then_film_scores_and_note(workspace):
    tab = decode_tab.DecodeTab(workspace, LatestOnly())
    assert tab.asked("1", "test1", 5, 0, 4, 2.0, Request())[1]["state"] == "working"
    outcomes = shown(tab)
    states = [players["state"] for _, players, *_ in outcomes]
    assert states[0] == "working" and states[-1] == "done" and set(states[:-1]) == {"working"}
    decoded, players, scores, *_ = outcomes[-1]
    assert decoded.window.index == 5 and players["film"].startswith("data:video/mp4;base64,")
    assert "SSIM" in scores and players["note"].startswith("seed 0")


def test_the_tab_shows_an_error_as_a_sentence(workspace):
    tab = decode_tab.DecodeTab(workspace, LatestOnly())
    tab.asked("1", "test1", 5, None, 4, 2.0, Request())
    ((decoded, players, *_),) = shown(tab)
    assert decoded is None and players["state"] == "error" and "seed" in players["message"]


def test_stopping_ends_the_decoding_without_a_word(workspace):
    tab = decode_tab.DecodeTab(workspace, LatestOnly())
    tab.asked("1", "test1", 5, 0, 500, 2.0, Request())
    outcomes = tab.decode(Request())
    next(outcomes)
    assert next(outcomes)[1]["state"] == "working"
    assert tab.stopped("test1", 5, Request())[1]["message"].startswith("Stopped")
    assert all(players["state"] == "working" for _, players, *_ in outcomes)
    tab.asked("1", "test1", 5, 0, 4, 2.0, Request())
    tab.stopped("test1", 5, Request())  # while it waits in the queue
    assert shown(tab) == []


def test_decode_pressed_twice_runs_once_with_the_settings_of_the_second(workspace):
    tab = decode_tab.DecodeTab(workspace, LatestOnly())
    for seed in (1, 2):
        tab.asked("1", "test1", 5, seed, 2, 2.0, Request())
    first, second = shown(tab), shown(tab)
    assert first[-1][0].settings.seed == 2 and second == []


def test_another_scan_ends_a_decoding_and_the_same_one_does_not(workspace):
    tab = decode_tab.DecodeTab(workspace, LatestOnly())
    tab.asked("1", "test1", 5, 0, 2, 2.0, Request())
    assert "state" not in tab.chosen("1", "test1", 5, Request())[1]  # skipped
    assert tab.chosen("1", "test1", 6, Request())[1]["state"] == "empty"
    assert shown(tab) == []


def test_guidance_can_lead_away_from_the_run_as_published(tiny_dataset, workspace, tmp_path):
    arguments = f"decode --subject 1 --scan 5 --steps 2 --data {tiny_dataset} --out"
    records = []
    for negative in ("training", "run"):
        assert cli.main([*arguments.split(), str(tmp_path / negative), "--negative", negative]) == 0
        records.append(json.loads((tmp_path / negative / "result.json").read_text()))
    assert [record["settings"]["negative"] for record in records] == ["training", "given"]
    settings = SamplingSettings(2, workspace.decoder.default_settings.guidance_scale, negative="given")
    window, mean = workspace.dataset.window("1", "test1", 5), workspace.dataset.windows("1", "test1").mean(0)
    expected = workspace.decoder.decode(window, settings, mean).clip.frames
    assert np.array_equal(workspace.decode("1", "test1", 5, settings).clip.frames, expected)
