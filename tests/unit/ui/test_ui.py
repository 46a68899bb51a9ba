"""What stands behind the page: jobs that can be stopped, similarity, and the HTML of what comes from files."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mindviz.attribution.methods import CONTROLS, METHODS
from mindviz.session import background
from mindviz.session.map_choice import choose
from mindviz.session.map_request import MapRequest
from mindviz.session.workspace import CONTROL_NAMES, compare
from mindviz.types import Decoded, Encoding, MindvizError, SamplingSettings, VideoClip, Window
from mindviz.ui import brain_panel, build, decode_tab, views
from mindviz.viewer import payloads


# ---------------------------------------------------------------------- jobs
def test_a_stream_tells_of_the_steps_and_ends_with_the_result():
    seen = threading.Event()

    def job(callback):
        for step in range(3):
            callback(step + 1, 3, "latents")
            assert seen.wait(5)
            seen.clear()
        return "clip"

    told = []
    for message in background.stream(job, threading.Event()):
        told.append(message)
        seen.set()
    assert told == [*(background.Step(step, 3) for step in (1, 2, 3)), background.Finished("clip")]


def test_a_stopped_job_ends_at_its_next_step():
    stop, steps = threading.Event(), []

    def job(callback):
        for step in range(1000):
            steps.append(step)
            callback(step + 1, 1000)
            if step == 4:
                stop.set()

    with pytest.raises(background.Cancelled):
        list(background.stream(job, stop))
    assert len(steps) == 6


def test_closing_a_stream_stops_the_job():
    ended = threading.Event()

    def job(callback):
        try:
            while True:
                callback(1, 2)
        finally:
            ended.set()

    told = background.stream(job, threading.Event())
    next(told)
    told.close()
    assert ended.wait(5)


def test_an_error_of_the_job_reaches_the_consumer():
    def job(callback):
        raise MindvizError("the file, what was expected, what was found")

    with pytest.raises(MindvizError, match="what was found"):
        list(background.stream(job, threading.Event()))


# ---------------------------------------------------------------------- settings
def asked(*settings):
    return decode_tab.DecodeRequest("1", "test1", 3, *settings)


@pytest.mark.parametrize("seed", [None, -1, 1.5, 2**32])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(MindvizError, match="seed"):
        decode_tab.checked_settings(SamplingSettings(), asked(seed, 20, 4.0))


def test_settings_keep_what_the_page_does_not_show():
    defaults = SamplingSettings(num_frames=8, negative="given")
    settings = decode_tab.checked_settings(defaults, asked(7.0, 12, 2.5))
    assert settings == SamplingSettings(12, 2.5, 7, 8, "given")


# ---------------------------------------------------------------------- similarity
def clips(count: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, 6, 16, 16, 3), dtype=np.uint8)


def test_the_truth_itself_is_most_similar():
    every = clips()
    found = compare(VideoClip(every[4], 3.0), every, 4, np.array([0, 1, 8]))
    assert found.ssim == pytest.approx(1) and found.rank == 1 and found.count == 9
    assert abs(found.ssim_others) < 0.1 and found.psnr == np.inf


def test_rank_counts_the_clips_that_are_nearer():
    every = clips()
    assert compare(VideoClip(every[2], 3.0), every, 4, np.array([0])).rank > 1
    grey = VideoClip(np.full((6, 16, 16, 3), 127, np.uint8), 3.0)
    distance = ((every.astype(float) - 127) ** 2).mean(axis=(1, 2, 3, 4))
    assert compare(grey, every, 4, np.array([0])).rank == 1 + int((distance < distance[4]).sum())


def test_a_clip_of_another_size_and_length_is_compared():
    flat = np.repeat(np.full((1, 1, 16, 16, 3), 90, np.uint8), 6, axis=1)
    large = VideoClip(np.full((8, 64, 64, 3), 90, np.uint8), 4.0)
    assert compare(large, np.concatenate([flat, clips(2)]), 0, np.array([1])).ssim == pytest.approx(1)


def test_the_baseline_leaves_out_the_shot_itself(workspace):
    assert workspace.cuts("test1") == [0, 2, 4, 6, 8, 10]
    assert set(workspace._others("test1", 5)) == {0, 1, 2, 3, 6, 7, 8, 9, 10, 11}


# ---------------------------------------------------------------------- the cortex
@pytest.fixture
def decoded(workspace):
    return workspace.decode("1", "test1", 3, SamplingSettings(1, 1.0, 0))


def test_before_anything_was_decoded_the_cortex_is_bare(workspace):
    assert brain_panel.payload(workspace, None, MapRequest.read("rollout")) is None


def test_an_answer_bears_the_number_of_its_request(workspace, decoded):
    shown = payloads.ticketed(brain_panel.payload(workspace, decoded, MapRequest.read("rollout")), 7)
    assert json.loads(shown)["ticket"] == 7 and json.loads(shown)["title"] == "Attention rollout"
    bare = json.loads(payloads.ticketed(None, 8))  # else a late map would stay where there is none
    assert (bare["ticket"], bare["maps"]) == (8, [])


def test_no_event_of_the_cortex_is_forgotten_while_its_last_is_answered(workspace):
    with build(workspace) as page:
        config = page.get_config_file()
    view = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "cortex")
    tied = [d for d in config["dependencies"] if view in d["outputs"]]
    assert tied and {d["trigger_mode"] for d in tied} <= {"multiple", "always_last"}
    clicked = [d for d in config["dependencies"] if [view, "select"] in [list(t) for t in d["targets"]]]
    assert [d["trigger_mode"] for d in clicked] == ["multiple"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_drawn_under_its_name(workspace, decoded, method):
    shown = json.loads(brain_panel.payload(workspace, decoded, MapRequest.read(method, 1, 0)))
    assert (shown["title"], shown["units"]) == (METHODS[method].name, METHODS[method].units)
    assert shown["simulated"] and not shown["signed"] and not shown["message"]
    values = np.frombuffer(base64.b64decode(shown["values"]), "<f4")
    one = workspace.attention(decoded, 1, 0) if method == "received" else workspace.attribution(decoded, choose(method))
    np.testing.assert_allclose(np.sort(values), np.sort(one.values), atol=1e-6)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_map_less_its_control(workspace, decoded, control):
    explainer, run = workspace.explainer("1"), workspace.count("1", "test1")
    scans = [workspace.dataset.window("1", "test1", i) for i in (range(run) if control == "shuffled" else [3])]
    for method in ("received", "integrated_gradients"):
        found = workspace.attribution(decoded, choose(method, control=control))
        expected = explainer.map(decoded.window, method).values - explainer.control(control, scans, method)
        np.testing.assert_allclose(found.values, expected, atol=1e-5)
        assert found.method == f"{method} minus {control}" and CONTROL_NAMES[control]
    shown = json.loads(brain_panel.payload(workspace, decoded, MapRequest.read("rollout", control=control)))
    assert shown["signed"] and shown["title"].startswith("Attention rollout less") and shown["units"] == "difference"


def test_a_stage_that_is_the_decoder_itself_is_not_compared_with(workspace):
    real = workspace.decoder
    info = SimpleNamespace(stage="contrast")
    early = replace(workspace, decoder=SimpleNamespace(data=real.data, folder=real.folder, info=info))
    assert not {"full", "contrast"} & set(early.stages("1")) and "untrained" in early.stages("1")


def test_methods_are_those_the_checkpoint_allows(workspace):
    assert workspace.methods("1") == tuple(METHODS)
    assert set(workspace.methods("2")) == set(METHODS) - {"pattern"}
    assert all(workspace.caution(method).endswith(".") for method in METHODS)


# ---------------------------------------------------------------------- html
def test_what_comes_from_a_file_is_escaped():
    html = views.header("<script>alert(1)</script>", "a & b", simulated=False)
    assert "<script>" not in html and "&lt;script&gt;" in html and "a &amp; b" in html


def test_simulated_is_written_on_what_is_simulated():
    assert "Simulated" in views.header("d", "c", simulated=True)
    assert "Simulated" not in views.header("d", "c", simulated=False)


def test_the_note_tells_seed_settings_and_time():
    clip = VideoClip(clips(1)[0], 3.0)
    window = Window(np.zeros((2, 4), np.float32), "1", "test1", 0)
    encoding = Encoding(np.zeros((2, 4), np.float32))
    decoded = Decoded(clip, window, encoding, SamplingSettings(20, 4.5, 11), {"encode": 0.2, "sample": 1.1})
    assert views.note(decoded) == "seed 11 · 20 steps · guidance 4.5 · 1.3 s"
