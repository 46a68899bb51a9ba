"""The lesions of a workspace: results are kept, since the page asks for them again. Knows nothing of gradio."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mindviz.attribution import lesion
from mindviz.attribution.lesion import Candidates, Change, Losses
from mindviz.brain import Parcellation
from mindviz.progress import Phases, Progress, no_phases
from mindviz.session.workspace import Workspace
from mindviz.types import Decoded, SamplingSettings, VideoClip, Window

Kept = TypeVar("Kept")
_MOST = 48  # results that are kept


class Lesions:
    """What takes parts of the cortex out of the windows of a workspace, and paints what is left."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._held: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The result of `make` for `key`; two callers at once both compute it, and neither waits."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]  # type: ignore[return-value]
        made = make()
        with self._lock:
            self._held[key] = made
            while len(self._held) > _MOST:
                self._held.popitem(last=False)
        return made

    def losses(self, window: Window, by: str | Parcellation, phases: Phases = no_phases) -> Losses:
        """`mindviz.attribution.lesion.losses` of a window, with the clips of its run as candidates."""
        named = (by.name, *by.files) if isinstance(by, Parcellation) else (by,)
        key = ("losses", window.subject, window.run, window.index, named)
        return self.kept(key, lambda: self._losses(window, by, phases))

    def _losses(self, window: Window, by: str | Parcellation, phases: Phases) -> Losses:
        explainer = self.workspace.explainer(window.subject)
        groups = lesion.groups_of(explainer, by)
        candidates = self.candidates(window, phases)
        return lesion.losses(explainer, window, groups, candidates, phases("Taking out one after the other"))

    def candidates(self, window: Window, phases: Phases = no_phases) -> Candidates | str:
        """`mindviz.attribution.lesion.candidates_of` the run of a window."""
        explainer, dataset, run = self.workspace.explainer(window.subject), self.workspace.dataset, window.run
        key = ("candidates", window.subject, run)
        return self.kept(key, lambda: lesion.candidates_of(explainer, dataset, run, phases("Reading the run")))

    def film(self, intact: Decoded, found: Losses, group: int, phases: Phases = no_phases) -> VideoClip:
        """What is painted without a group, all else as in the intact decoding."""
        lost = found.groups.of == group
        return self._paint(intact, lost, intact.settings, phases(f"Decoding without {found.groups.spoken(group)}"))

    def other_seed(self, intact: Decoded, phases: Phases = no_phases) -> Change:
        """How far the film moves with nothing taken out and the next seed: what a lesion's change is read against."""
        settings = replace(intact.settings, seed=(intact.settings.seed + 1) % 2**32)
        window = intact.window
        key = ("seed", window.subject, window.run, window.index, settings)

        def make() -> Change:
            nothing = np.zeros(window.bold.shape[1], bool)
            clip = self._paint(intact, nothing, settings, phases("Decoding with another seed"))
            return self.change(clip, intact)

        return self.kept(key, make)

    def change(self, clip: VideoClip, intact: Decoded) -> Change:
        """How far a clip lies from the intact decoding, and from what was shown."""
        window = intact.window
        return lesion.change(clip, intact.clip, self.workspace.dataset.clip(window.run, window.index))

    def _paint(self, intact: Decoded, lost: np.ndarray, settings: SamplingSettings, progress: Progress) -> VideoClip:
        window, decoder = intact.window, self.workspace.decoder
        away = decoder.negative_tokens(window, settings, self.workspace.negative(window, settings))
        explainer = self.workspace.explainer(window.subject)
        progress(0, settings.num_inference_steps)

        def callback(step: int, total: int, *_: object) -> None:
            progress(step, total)

        return lesion.paint_without(explainer, window, lost, away, settings, callback)
