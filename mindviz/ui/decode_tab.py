"""The first tab: choose a scan, decode it, see film and cortex."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gradio as gr

from mindviz.session import background
from mindviz.session.latest import LatestOnly
from mindviz.session.workspace import Workspace, thumbnail_sheet
from mindviz.types import Decoded, MindvizError, SamplingSettings
from mindviz.ui import brain_panel, components, lesion_panel, views

_log = logging.getLogger(__name__)
_COLUMNS = 16
_READY = "Press Decode: the scan is all the decoder will see."
_UNKNOWN = "Decoding failed for a reason that mindviz does not know; the terminal it runs in shows the details."
_NO_SCORE = "The similarity to what was shown appears here after decoding."

Outcome = tuple[Any, ...]  # decoded, players, scores


@dataclass(frozen=True)
class Controls:
    """What the person sets."""

    subject: gr.Radio
    run: gr.Dropdown
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    decode: gr.Button


@dataclass(frozen=True)
class DecodeRequest:
    """A scan, and the settings as they stood on the page when Decode was pressed."""

    subject: str
    run: str
    scan: int
    seed: float
    steps: float
    guidance: float


@dataclass(frozen=True)
class DecodeTab:
    """The events of the tab. Everything that belongs to one browser session is in `gr.State`."""

    workspace: Workspace
    latest: LatestOnly[DecodeRequest]

    @lru_cache(maxsize=32)  # noqa: B019 - one tab lives as long as the process
    def film(self, subject: str, run: str) -> dict[str, Any]:
        """What the film strip draws."""
        clips, count = self.workspace.clips(run), self.workspace.count(subject, run)
        return {
            "count": count,
            "seconds": self.workspace.tr,
            "sheet": thumbnail_sheet(clips[:count], _COLUMNS),
            "columns": _COLUMNS,
            "rows": -(-count // _COLUMNS),
            "cuts": self.workspace.cuts(run),
            "run": run,
        }

    def truth(self, run: str, scan: int, **state: Any) -> dict[str, Any]:
        """The players' value with the true clip on the left; `state` is what the right side shows."""
        return {
            "truth": self._truth_film(run, scan),
            "film": None,
            "caption": self.workspace.caption(run, scan),
            "note": "",
            "ticket": time.monotonic_ns(),
            "state": "empty",
            "message": _READY,
            "progress": 0.0,
            **state,
        }

    @lru_cache(maxsize=512)  # noqa: B019 - one tab lives as long as the process
    def _truth_film(self, run: str, scan: int) -> str:
        return components.clip_address(self.workspace.dataset.clip(run, scan))

    def outcome(self, run: str, scan: int, decoded: Decoded | None = None, scores: str = "", **state: Any) -> Outcome:
        """What every event returns: decoded, the players, the scores."""
        return decoded, self.truth(run, scan, **state), scores or views.placeholder(_NO_SCORE)

    def chosen(self, subject: str, run: str, scan: int, request: gr.Request) -> Outcome:
        """Another scan is looked at: what was being decoded is no longer wanted (unless it is this very scan)."""
        chosen = (subject, run, scan)
        if self.latest.stop(str(request.session_hash), lambda asked: (asked.subject, asked.run, asked.scan) == chosen):
            return (gr.skip(),) * 3  # Decode was pressed before this reply; its own outcomes are on their way
        return self.outcome(run, scan)

    def stopped(self, run: str, scan: int, request: gr.Request) -> Outcome:
        self.latest.stop(str(request.session_hash))
        return self.outcome(run, scan, message="Stopped. " + _READY)

    def asked(
        self, subject: str, run: str, scan: int, seed: float, steps: float, guidance: float, request: gr.Request
    ) -> Outcome:
        """Decode was pressed. Said beside the queue, so that what waits in it can be stopped like what runs."""
        self.latest.ask(str(request.session_hash), DecodeRequest(subject, run, scan, seed, steps, guidance))
        return self.outcome(run, scan, state="working", message="Waiting for its turn")

    def decode(self, request: gr.Request) -> Iterator[Outcome]:
        """Yield an outcome after each denoising step of what was asked for last, while it is still wanted; errors take
        the place of the film."""
        yield (gr.skip(),) * 3  # gradio empties what is tied to a generator that ends without a word
        ask = self.latest.take(str(request.session_hash))
        if ask is None:
            return
        subject, run, scan = ask.work.subject, ask.work.run, ask.work.scan
        try:
            settings = checked_settings(self.workspace.decoder.default_settings, ask.work)
            yield from self._steps(subject, run, scan, settings, ask.stop)
        except background.Cancelled:
            return  # whoever stopped it has said what the page shows
        except MindvizError as error:
            yield self.outcome(run, scan, state="error", message=str(error))
        except Exception:  # noqa: BLE001 - logged whole; the page shows a sentence, never a traceback
            _log.exception("decoding scan %s of %s, subject %s, failed", scan, run, subject)
            yield self.outcome(run, scan, state="error", message=_UNKNOWN)

    def _steps(
        self, subject: str, run: str, scan: int, settings: SamplingSettings, stop: threading.Event
    ) -> Iterator[Outcome]:
        yield self.outcome(run, scan, state="working", message="Reading the scan")

        def job(callback: Any) -> Decoded:
            return self.workspace.decode(subject, run, scan, settings, callback)

        for message in background.stream(job, stop):
            if isinstance(message, background.Step):
                told, share = told_of(message), message.step / message.total
                yield self.outcome(run, scan, state="working", message=told, progress=share)
            else:
                yield self._finished(run, scan, message.result)

    def _finished(self, run: str, scan: int, decoded: Decoded) -> Outcome:
        scores = views.scores(self.workspace.similarity(decoded))
        film, note = components.clip_address(decoded.clip), views.note(decoded)
        return self.outcome(run, scan, decoded, scores, film=film, note=note, state="done", message="", progress=1.0)


def told_of(step: background.Step) -> str:
    if step.step == step.total:
        return "Drawing the frames"
    return f"Denoising, step {step.step} of {step.total}"


def checked_settings(defaults: SamplingSettings, asked: DecodeRequest) -> SamplingSettings:
    """Settings from what was typed; fields of a page can be empty or fractional."""
    seed, steps, guidance = asked.seed, int(asked.steps), float(asked.guidance)
    if seed is None or seed != int(seed) or not 0 <= seed < 2**32:
        raise MindvizError(f"the seed must be a whole number from 0 to 4294967295, found {seed}")
    return replace(defaults, num_inference_steps=steps, guidance_scale=guidance, seed=int(seed))


def build_decode(workspace: Workspace) -> None:
    """Lay the tab out in the page that is being built, and connect its events."""
    tab = DecodeTab(workspace, LatestOnly())
    subject, run = workspace.subjects[0], workspace.runs(workspace.subjects[0])[0]
    first = min(17, workspace.count(subject, run) - 1)

    decoded = gr.State(None)
    strip = components.film_strip(first, tab.film(subject, run))
    with gr.Row(elem_id="app-main", equal_height=False):
        with gr.Column(scale=0, min_width=220, elem_id="app-controls"):
            controls = _controls(workspace, subject, run)
            lesion_panel.opener()
        with gr.Column(scale=11, min_width=480):
            players = components.players(tab.truth(run, first))
            scores = gr.HTML(views.placeholder(_NO_SCORE), apply_default_css=False, elem_id="app-scores")
        with gr.Column(scale=9, min_width=360):
            brain = brain_panel.build_brain(workspace)
    lesion, view = lesion_panel.build_lesion(workspace)
    begun, *events = _connect(tab, controls, strip, [decoded, players, scores])
    lesion_panel.connect_lesion(lesion, view, decoded, brain.own, brain.method, [begun, *events])
    brain_panel.connect_brain(brain, workspace, decoded, [controls.subject, controls.run, strip], events)


def _controls(workspace: Workspace, subject: str, run: str) -> Controls:
    defaults, runs = workspace.decoder.default_settings, workspace.runs(subject)
    radio = gr.Radio(list(workspace.subjects), value=subject, label="Subject", elem_id="app-subject")
    dropdown = gr.Dropdown(list(runs), value=run, label="Film", visible=len(runs) > 1, elem_id="app-run")
    button = gr.Button("Decode", variant="primary", size="lg", elem_id="app-decode")
    seed = gr.Number(defaults.seed, label="Seed", precision=0, minimum=0, elem_id="app-seed")
    most = max(100, defaults.num_inference_steps)
    steps = gr.Slider(1, most, defaults.num_inference_steps, step=1, label="Steps", buttons=[])
    strongest = max(15.0, defaults.guidance_scale)
    guidance = gr.Slider(0, strongest, defaults.guidance_scale, step=0.5, label="Guidance", buttons=[])
    return Controls(radio, dropdown, seed, steps, guidance, button)


def _connect(tab: DecodeTab, c: Controls, strip: gr.HTML, results: list[Any]) -> list[Any]:
    """Connect the events. Of those returned, the first begins a decoding, the others change what was decoded."""

    def other_run(subject: str, run: str, request: gr.Request) -> Outcome:
        return (gr.update(value=0, film=tab.film(subject, run)), *tab.chosen(subject, run, 0, request))

    def other_subject(subject: str, run: str, scan: int, request: gr.Request) -> Outcome:
        runs = tab.workspace.runs(subject)
        run = run if run in runs else runs[0]
        scan = min(scan, tab.workspace.count(subject, run) - 1)
        films = gr.update(choices=list(runs), value=run, visible=len(runs) > 1)
        film = gr.update(value=scan, film=tab.film(subject, run))
        return (films, film, *tab.chosen(subject, run, scan, request))

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    players = results[1]
    settings = [c.subject, c.run, strip, c.seed, c.steps, c.guidance]
    # `queue=False`: replies beside the queue. In the queue, gradio's page can lose the reply of an event that ends
    # another one, when both end together; and `cancels=` would end a decoding begun between a choice and its reply.
    now: dict[str, Any] = {"queue": False, "trigger_mode": "multiple", **quiet}
    begun = c.decode.click(tab.asked, settings, results, **now)
    work: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "decode", "trigger_mode": "multiple", **quiet}
    return [
        begun,
        begun.then(tab.decode, None, results, **work),
        players.stop(tab.stopped, [c.run, strip], results, **now),
        strip.select(tab.chosen, [c.subject, c.run, strip], results, **now),
        c.run.input(other_run, [c.subject, c.run], [strip, *results], **now),
        c.subject.input(other_subject, [c.subject, c.run, strip], [c.run, strip, *results], **now),
    ]
