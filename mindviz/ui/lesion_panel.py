"""An area taken out: the part of the page where a lesion is chosen and watched beside the intact decoding."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from mindviz.attribution.lesion import CAUTION, PATCH, Change, Losses
from mindviz.brain import Parcellation
from mindviz.brain.meshes import MESH
from mindviz.progress import Progress
from mindviz.session import background
from mindviz.session.latest import LatestOnly
from mindviz.session.lesions import Lesions
from mindviz.session.own_files import NOTHING, PARCELS, OwnFiles
from mindviz.session.workspace import Workspace
from mindviz.types import Decoded, MindvizError
from mindviz.ui import components

_log = logging.getLogger(__name__)
_NOTHING_YET = "Decode a scan first: then it is decoded again without the area that you take out."
_NO_MEAN = (
    "This checkpoint stores no mean training scan to put in an area's place (one that was imported does not), "
    "so nothing can be taken out."
)
_UNKNOWN = "Taking it out failed for a reason that mindviz does not know; the terminal it runs in shows the details."
_STOPPED = "Stopped."
_WAITING = "Waiting for its turn"
_NAMES = {"yeo7": "networks (Yeo-7)", "hcp-mmp": "areas (HCP-MMP)", PATCH: "patches of the encoder"}
CLOSED = json.dumps({"open": False, "by": "yeo7", "which": "", "ticket": 0})
"""The page's value; it sets another when something is chosen."""


@dataclass
class Made:
    """What is known of a lesion so far; a job fills it, one after the other."""

    losses: Losses | None = None
    group: int = -1
    film: str = ""
    change: Change | None = None
    intact: Change | None = None
    seed: Change | None = None
    doing: str = ""


@dataclass(frozen=True)
class LesionRequest:
    """What the page asks for: groups of `by` of a decoded scan (None: none was decoded yet), and one of them by name
    (``""``: the first); whether the panel is open; and the page's number of the request."""

    open: bool
    by: str
    which: str
    ticket: int
    decoded: Decoded | None
    own: OwnFiles

    @classmethod
    def read(cls, value: str, decoded: Decoded | None, own: OwnFiles) -> LesionRequest:
        """Of the page's value."""
        told = json.loads(value)
        return cls(bool(told["open"]), str(told["by"]), str(told["which"]), int(told["ticket"]), decoded, own)

    @property
    def parcels(self) -> str | Parcellation:
        """What `mindviz.attribution.lesion.groups_of` takes."""
        kind, _, name = self.by.partition(":")
        if kind != PARCELS:
            return self.by
        if name not in self.own.parcels:
            raise MindvizError(f"{name}: no such parcellation is open; open the file again")
        return self.own.parcels[name]


@dataclass(frozen=True)
class LesionPanel:
    """The events of the panel. All that belongs to one browser session is in the page's value, and in `latest`."""

    workspace: Workspace
    lesions: Lesions
    latest: LatestOnly[tuple[LesionRequest, Decoded] | None] = field(default_factory=LatestOnly)

    # ------------------------------------------------------------------ events
    def asked(self, value: str, decoded: Decoded | None, own: OwnFiles, request: gr.Request) -> Any:
        """Something else is to be taken out, or from something else. Said beside the queue: it stops what runs."""
        asked = LesionRequest.read(value, decoded, own)
        if not asked.open:
            return self._answer(asked, request)
        if decoded is None:
            return self._answer(asked, request, self.shown(asked, message=_NOTHING_YET))
        if self.workspace.decoder.data(decoded.window.subject) is None:
            return self._answer(asked, request, self.shown(asked, message=_NO_MEAN, state="error"))
        waiting = self.shown(asked, message=_WAITING, state="working")
        return self._answer(asked, request, waiting, (asked, decoded))

    def stopped(self, value: str, decoded: Decoded | None, own: OwnFiles, request: gr.Request) -> Any:
        """Stop was pressed."""
        asked = LesionRequest.read(value, decoded, own)
        return self._answer(asked, request, self.shown(asked, message=_STOPPED, again=decoded is not None))

    def _answer(
        self,
        asked: LesionRequest,
        request: gr.Request,
        shown: dict[str, Any] | None = None,
        wanted: tuple[LesionRequest, Decoded] | None = None,
    ) -> Any:
        """Stop what runs, have what is `wanted` taken up by the next `run`, and show this; nothing of it where the page
        has asked for something else since. What is shown was made before, for `run` may begin within this call."""
        kept = self.latest.ask(str(request.session_hash), wanted, asked.ticket)
        return _update(shown) if kept and shown else gr.skip()

    def run(self, request: gr.Request) -> Iterator[Any]:
        """Yield what there is to see of what was asked for last, as it is computed, while it is still wanted."""
        yield gr.skip()  # gradio empties what is tied to a generator that ends without a word
        taken = self.latest.take(str(request.session_hash))
        if taken is None or taken.work is None:
            return
        asked, decoded = taken.work
        try:
            for shown in self.steps(asked, decoded, taken.stop):
                yield _update(shown)
        except background.Cancelled:
            return  # whoever stopped it has said what the page shows
        except MindvizError as error:
            yield _update(self.shown(asked, message=_sentence(str(error)), state="error", again=True))
        except Exception:  # noqa: BLE001 - logged whole; the page shows a sentence, never a traceback
            _log.exception("taking out %s of %s failed", asked.which or "the first", asked.by)
            yield _update(self.shown(asked, message=_UNKNOWN, state="error", again=True))

    # ------------------------------------------------------------------ the work
    def steps(self, asked: LesionRequest, decoded: Decoded, stop: threading.Event) -> Iterator[dict[str, Any]]:
        """What the page shows after each step.

        Raises
        ------
        background.Cancelled
            `stop` was set.
        MindvizError
            For what cannot be taken out.
        """
        made = Made()
        for message in background.stream(lambda callback: self._work(asked, decoded, made, callback), stop):
            share = message.step / message.total if isinstance(message, background.Step) else 1.0
            yield self.shown(asked, made, made.doing, "done" if made.film else "working", share)

    def _work(self, asked: LesionRequest, decoded: Decoded, made: Made, callback: Any) -> None:
        def phases(what: str) -> Progress:
            made.doing = what
            return lambda done, total: callback(done, total)

        found = self.lesions.losses(decoded.window, asked.parcels, phases)
        names = found.groups.names  # of a scan chosen since, which need not have the group that was chosen before
        made.group = names.index(asked.which) if asked.which in names else int(found.order[0])
        made.losses = found
        clip = self.lesions.film(decoded, found, made.group, phases)
        made.change, made.intact = self.lesions.change(clip, decoded), self.lesions.change(decoded.clip, decoded)
        made.film = components.clip_address(clip)
        callback(1, 1)
        made.seed = self.lesions.other_seed(decoded, phases)

    # ------------------------------------------------------------------ what is shown
    def shown(
        self,
        asked: LesionRequest,
        made: Made | None = None,
        message: str = "",
        state: str = "empty",
        progress: float = 0.0,
        again: bool = False,
    ) -> dict[str, Any]:
        """What `assets/app/lesion.js` draws."""
        made, decoded = made or Made(), asked.decoded
        found = made.losses
        chosen = found.groups.names[made.group] if found else asked.which
        alone = [[chosen, chosen]] if chosen else []
        return {
            "answers": asked.ticket,
            "ticket": time.monotonic_ns(),
            "by": asked.by,
            "list": [[found.groups.names[i], _told(found, i)] for i in found.order.tolist()] if found else alone,
            "chosen": chosen,
            "name": found.groups.spoken(made.group) if found else "",
            "order": "ordered by how far they move the tokens" if found else "",
            "truth": self._shown_film(decoded) if decoded else None,
            "intact": self._intact_film(decoded) if decoded else None,
            "film": made.film or None,
            "said": [*sentences(made), CAUTION],
            "state": state,
            "message": message,
            "progress": progress,
            "again": again,
            "simulated": self.workspace.simulated,
        }

    def _shown_film(self, decoded: Decoded) -> str:
        window, dataset = decoded.window, self.workspace.dataset
        key = ("shown film", window.run, window.index)
        return self.lesions.kept(key, lambda: components.clip_address(dataset.clip(window.run, window.index)))

    def _intact_film(self, decoded: Decoded) -> str:
        window = decoded.window
        key = ("intact film", window.subject, window.run, window.index, decoded.settings)
        return self.lesions.kept(key, lambda: components.clip_address(decoded.clip))

    def groupings(self, own: OwnFiles) -> list[list[str]]:
        """What can be taken out, as (value, name); the parcellations that the person has opened come last."""
        known = [[by, name] for by, name in _NAMES.items() if by == PATCH or self.workspace.dataset.mesh == MESH]
        return [*known, *([f"{PARCELS}:{name}", f"parcels of {name}"] for name in own.parcels)]


def sentences(made: Made) -> list[str]:
    """What the lesion does, in words; each figure beside what it must be read against."""
    found = made.losses
    if found is None:
        return []
    name, voxels = found.groups.spoken(made.group), int(found.groups.voxels[made.group])
    said = [
        f"Without {name} ({voxels:,} of {len(found.groups.of):,} voxels) the tokens move by "
        f"{found.moved[made.group]:.2f}; 1 would be as far as the mean scan's."
    ]
    if found.ranks is None:
        said.append(found.untold)
    else:
        said.append(
            f"By the captions, the true clip takes place {found.ranks[made.group]:g} of {found.count}, intact "
            f"{found.rank:g}, by guessing {(found.count + 1) / 2:g}; clips of one caption share their places."
        )
    if made.change is None or made.intact is None:
        return said
    new, old = made.change, made.intact
    film = f"The film: SSIM {new.ssim_intact:.2f} and an error of {new.rmse_intact:.0f} grey levels to the intact one."
    if made.seed is not None:
        film += (
            f" Another seed, with nothing taken out: {made.seed.ssim_intact:.2f} and {made.seed.rmse_intact:.0f}; "
            f"the lesion changes {_beside(new, made.seed)}."
        )
    return [*said, f"{film} SSIM to what was shown: {new.ssim_shown:.2f}, intact {old.ssim_shown:.2f}."]


def _beside(lesion: Change, seed: Change) -> str:
    """Whether a lesion moves the film farther than another seed does, by both measures or by one."""
    farther = lesion.ssim_intact < seed.ssim_intact, lesion.rmse_intact > seed.rmse_intact
    if all(farther):
        return "more than that"
    if not any(farther):
        return "no more than that"
    return f"more than that by {'SSIM' if farther[0] else 'the error'} alone"


def _told(found: Losses, group: int) -> str:
    """A group in the list: how far it moves the tokens, and where the true clip goes."""
    told = f"{found.groups.spoken(group)} · moves {found.moved[group]:.2f}"
    return told if found.ranks is None else f"{told} · place {found.rank:g} → {found.ranks[group]:g}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _update(shown: dict[str, Any]) -> Any:
    return gr.update(shown=shown)


# ---------------------------------------------------------------------- the page
def opener() -> gr.Button:
    """The button that opens the panel and goes there; it lies among the controls, where it is always seen."""
    button = gr.Button("Take an area out", size="sm", elem_id="app-lesion-open")
    button.click(None, None, None, js=components.handler("openLesion"))
    return button


def build_lesion(workspace: Workspace) -> tuple[LesionPanel, gr.HTML]:
    """Lay the panel out, closed."""
    panel = LesionPanel(workspace, Lesions(workspace))
    shown = panel.shown(LesionRequest.read(CLOSED, None, NOTHING), message=_NOTHING_YET)
    return panel, components.lesion_players(CLOSED, panel.groupings(NOTHING), shown)


def connect_lesion(
    panel: LesionPanel, view: gr.HTML, decoded: gr.State, own: gr.State, method: gr.Dropdown, events: Sequence[Any]
) -> None:
    """Answer what the person chooses, and `events`, which change what was decoded.

    What is to be done is kept as it was asked for: `run` asks the page nothing, which may have chosen again since.
    A parcellation that is opened is chosen as the map's `method` at once: then it can be taken apart here, too.
    """
    inputs = [view, decoded, own]
    now: dict[str, Any] = {"queue": False, "trigger_mode": "multiple", "show_progress": "hidden"}
    ask = {"js": components.handler("numbered"), **now}
    work: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "lesion",
        "trigger_mode": "multiple",
        "show_progress": "hidden",
    }
    for event in [
        view.select(panel.asked, inputs, view, **ask),
        *(e.then(panel.asked, inputs, view, **ask) for e in events),
    ]:
        event.then(panel.run, None, view, **work)
    view.stop(panel.stopped, inputs, view, **ask)
    method.change(lambda own: gr.update(groupings=panel.groupings(own)), own, view, **now)
