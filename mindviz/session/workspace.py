"""What the page works on: one decoder, one dataset, and what follows from them. Knows nothing of gradio."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange
from PIL import Image

from mindviz import brain, metrics, video
from mindviz.attribution.attention import attention_map
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS, caution
from mindviz.checkpoint.subject import encoder_folder
from mindviz.data.whole_runs import run_scans
from mindviz.extensions.questions import READ_OUT, attention_heads, attention_layers
from mindviz.progress import Progress, part_of, silent
from mindviz.session.map_choice import CONTROL_NAMES, STAGE_NAMES, MapChoice
from mindviz.types import AttentionMap, Decoded, MindvizError, SamplingSettings, SurfaceMap, VideoClip, Window

if TYPE_CHECKING:
    from mindviz.data import Dataset
    from mindviz.decoder import Decoder

_NUM_SHUFFLED = 16  # scans whose voxels are exchanged for that control
_NUM_OTHERS = 20  # clips of other shots that the SSIM baseline averages; SSIM is too slow for all of them


@dataclass(frozen=True)
class Similarity:
    """How like the truth a decoded clip is, each number beside what it must be read against.

    Attributes
    ----------
    ssim, ssim_others : SSIM of the decoded clip to the truth, and to the mean of clips of other shots.
    psnr, psnr_others : the same in dB.
    rank, count : the truth's place among the `count` test clips, ordered by their pixel distance to the decoded clip
        (1 is nearest; guessing gives (count + 1) / 2).
    """

    ssim: float
    ssim_others: float
    psnr: float
    psnr_others: float
    rank: float
    count: int


@dataclass(frozen=True)
class Workspace:
    """A decoder and the dataset it decodes; `check` in the constructor has said that they fit."""

    decoder: Decoder
    dataset: Dataset

    @property
    def simulated(self) -> bool:
        """Whether the scans are simulated, or the decoder was trained on such."""
        return self.dataset.simulated or self.decoder.simulated

    def caution(self, method: str) -> str:
        """`mindviz.attribution.explainer.caution` of this decoder."""
        return caution(self.decoder, method)

    @property
    def tr(self) -> float:
        """Seconds of film for each scan."""
        return self.dataset.info.tr

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects of the dataset that have an encoder (`Decoder.check` has seen to it that there is one)."""
        known = self.decoder.subjects
        return tuple(subject for subject in self.dataset.subjects if subject in known or not known)

    def runs(self, subject: str) -> tuple[str, ...]:
        return tuple(self.dataset.runs(subject, "test"))

    def count(self, subject: str, run: str) -> int:
        """Number of scans of a run: those with a clip and a volume."""
        return min(len(self.clips(run)), len(self.dataset.run(subject, run).bold))

    @lru_cache(maxsize=8)  # noqa: B019 - one workspace lives as long as the process
    def clips(self, run: str) -> np.ndarray:
        """Every clip of a run, (N, F, H, W, 3) uint8."""
        frames, length = self.dataset.film(run).frames, self.dataset.clip_frames
        return rearrange(frames[: len(frames) // length * length], "(n f) h w c -> n f h w c", f=length)

    def cuts(self, run: str) -> list[int]:
        """Scans in which a new shot begins; empty where the shots are not known."""
        frames = self.clips(run).shape[1]  # a scan belongs to the shot that its middle frame lies in
        return sorted({max(0, math.ceil((shot["start"] - frames // 2) / frames)) for shot in self.dataset.shots(run)})

    def caption(self, run: str, index: int) -> str:
        """The captions of a clip, each once, in order."""
        return " → ".join(dict.fromkeys(self.dataset.captions(run, index)))

    def decode(
        self,
        subject: str,
        run: str,
        index: int,
        settings: SamplingSettings,
        callback: Callable[..., None] | None = None,
    ) -> Decoded:
        """Decode a scan; a ``"given"`` negative is the mean window of the run, as in the published evaluation."""
        window = self.dataset.window(subject, run, index)
        return self.decoder.decode(window, settings, self.negative(window, settings), callback)

    def negative(self, window: Window, settings: SamplingSettings) -> np.ndarray | None:
        """The scans (T, V) that a ``"given"`` negative stands for; None for the stored mean."""
        given = settings.negative == "given"
        return self.dataset.windows(window.subject, window.run).mean(0) if given else None

    def attention(self, decoded: Decoded, layer: int, head: int) -> AttentionMap:
        return attention_map(self.decoder, decoded, decoded.window.subject, layer, head)

    def methods(self, subject: str) -> tuple[str, ...]:
        """The methods of attribution that this checkpoint allows."""
        data = self.decoder.data(subject)
        if data is None:
            return ("received",)
        return tuple(m for m in METHODS if m != "pattern" or data.explained is not None)

    @lru_cache(maxsize=16)  # noqa: B019 - one workspace lives as long as the process
    def explainer(self, subject: str, stage: str = "full") -> Explainer:
        return Explainer(self.decoder, subject, stage, run_scans(self.dataset, subject))

    def stages(self, subject: str) -> tuple[str, ...]:
        """Stages of training besides the last whose encoders can be asked; ``"untrained"`` always can."""
        if self.decoder.data(subject) is None:
            return ()
        home = self.decoder.folder
        held = [stage for stage in STAGE_NAMES if encoder_folder(home, subject, stage).is_dir()]
        same = (self.decoder.info.stage, "full")  # the folder of the last stage is that of the decoder itself
        return ("untrained", *(stage for stage in held if stage not in same))

    def patches(self, subject: str) -> np.ndarray:
        """The patch of each voxel (V,), from 0; -1 for one that the encoder leaves out."""
        return self.decoder.encoder_config(subject).patching.of_voxels()

    def maps(self, subject: str, run: str, indices: np.ndarray, choice: MapChoice) -> np.ndarray:
        """The map of several scans of a run, each less its control, (N, V)."""
        if choice.control == "shuffled":
            raise MindvizError(f"{CONTROL_NAMES[choice.control]}: asked for one scan at a time (`map_of`)")
        windows = [self.dataset.window(subject, run, int(index)) for index in indices]
        return self.minus_control(self.plain_maps(windows, choice), windows, choice)

    def attribution(self, decoded: Decoded, choice: MapChoice, progress: Progress = silent) -> AttentionMap:
        """The map of a decoded scan, less its control where there is one."""
        if choice.method != "received" or choice.position != -1 or choice.stage != "full":
            return self.map_of(decoded.window, choice, progress)
        found = self.attention(decoded, choice.layer, choice.head)  # captured when it was decoded
        return self._less(found, decoded.window, choice, progress)

    def map_of(self, window: Window, choice: MapChoice, progress: Progress = silent) -> AttentionMap:
        """The map of a scan that need not have been decoded, of any subject and stage (`attribution`).

        Raises
        ------
        MindvizError
            If the encoder of that stage has no such layer or head, or the method does not exist for it.
        """
        parts = len(self._compared(window, choice))
        values = self.plain_maps([window], choice, part_of(progress, 0, 1 + parts))[0]
        stage = self.explainer(window.subject, choice.stage).stage
        found = AttentionMap(values, choice.layer, choice.head, stage, choice.method)
        return self._less(found, window, choice, progress)

    def plain_maps(self, windows: Sequence[Window], choice: MapChoice, progress: Progress = silent) -> np.ndarray:
        """The map of each window of a subject, (N, V), no control taken off.

        Raises
        ------
        MindvizError
            If the encoder of that stage has no such layer.
        """
        return self._maps(windows, choice, choice.stage, progress)

    def _maps(self, windows: Sequence[Window], choice: MapChoice, stage: str, progress: Progress) -> np.ndarray:
        explainer = self.explainer(windows[0].subject, stage)
        config = explainer.config
        layers = attention_layers(config)
        if choice.layer >= len(layers):
            lacks = "" if READ_OUT in layers else " and no read-out"
            raise MindvizError(f"{STAGE_NAMES[stage]} has {len(layers)} layers{lacks}: choose another layer")
        asked = (choice.method, choice.layer, choice.head)
        return explainer.maps(windows, *asked, progress, choice.position, choice.parcels)

    def minus_control(
        self,
        values: np.ndarray,
        windows: Sequence[Window],
        choice: MapChoice,
        progress: Progress = silent,
        shuffled: Sequence[Window] = (),
    ) -> np.ndarray:
        """The maps (N, V) of N windows, each less its control, where the choice has one.

        The control is the map of the same window of an untrained encoder, the map's own mean, or, since the voxels of
        shuffled scans belong to no one scan, the mean map of the scans `shuffled` among each other (the N windows
        themselves if none are given).
        """
        if not choice.control:
            return values
        if choice.control == "uniform":
            mean = np.nanmean(values, axis=1, keepdims=True, dtype=np.float64)
            return values - mean.astype(np.float32)
        if choice.control == "untrained":
            return values - self._maps(windows, choice, "untrained", progress)
        explainer = self.explainer(windows[0].subject, choice.stage)
        asked = (choice.method, choice.layer, choice.head)
        scans = list(shuffled or windows)
        return values - explainer.control("shuffled", scans, *asked, 0, progress, choice.position, choice.parcels)

    def _less(self, found: AttentionMap, window: Window, choice: MapChoice, progress: Progress) -> AttentionMap:
        """A map less that of its control; the progress is that of the second part of both."""
        if not choice.control:
            return found
        scans = self._compared(window, choice)
        rest = part_of(progress, 1, 1 + len(scans), len(scans)) if scans else silent
        less = self.minus_control(found.values[None], [window], choice, rest, scans)[0]
        return replace(found, values=less, method=choice.computed)

    def _compared(self, window: Window, choice: MapChoice) -> list[Window]:
        """The scans whose maps are computed for the control of that of `window`."""
        if choice.control in ("", "uniform"):
            return []
        whole = METHODS[choice.method].of_run  # such a method shuffles the whole run itself
        return self._around(window) if choice.control == "shuffled" and not whole else [window]

    def _around(self, window: Window) -> list[Window]:
        """A scan and others of its run, evenly spread."""
        count = self.count(window.subject, window.run)
        others = np.linspace(0, count - 1, min(_NUM_SHUFFLED, count)).round().astype(int)
        chosen = sorted({window.index, *others.tolist()})
        return [self.dataset.window(window.subject, window.run, index) for index in chosen]

    def layers(self, subject: str) -> list[str]:
        """What the layers of attention of a subject's encoder are called; a read-out is the last."""
        return attention_layers(self.decoder.encoder_config(subject))

    def heads(self, subject: str) -> list[str]:
        """What the heads of each layer are called; those of a read-out are its questions."""
        return attention_heads(self.decoder.encoder_config(subject))

    def check_layer_and_head(self, subject: str, layer: int, head: int) -> None:
        """Refuse a layer or head that the encoder does not have (-1 is the mean)."""
        known = (len(self.layers(subject)), len(self.heads(subject)))
        for name, wanted, number in zip(("layer", "head"), (layer, head), known, strict=True):
            if not -1 <= wanted < number:
                raise MindvizError(
                    f"the encoder of subject {subject}: expected a {name} from -1 to {number - 1}, found {wanted}"
                )

    @lru_cache(maxsize=8)  # noqa: B019 - one workspace lives as long as the process
    def projection(self, subject: str) -> brain.Projection:
        """From a subject's voxels to the dataset's mesh; where scans came as images, to every vertex in a voxel."""
        vertices = self.dataset.run(subject, self.runs(subject)[0]).vertices
        return brain.Projection(vertices, self.dataset.mesh, self.dataset.volume(subject))

    def surface_map(self, subject: str, attention: AttentionMap, label: str) -> SurfaceMap:
        """The map on the dataset's mesh; `Decoder.check` has compared its vertices with the checkpoint's."""
        return self.projection(subject).to_surface(attention.values, label)

    def similarity(self, decoded: Decoded) -> Similarity:
        """Compare with the truth, and with clips of other shots as a baseline."""
        clips, index = self.clips(decoded.window.run), decoded.window.index
        return compare(decoded.clip, clips, index, self._others(decoded.window.run, index))

    def _others(self, run: str, index: int) -> np.ndarray:
        """Up to `_NUM_OTHERS` scans, evenly spread, that do not lie in the shot of scan `index`."""
        cuts = np.array([0, *self.cuts(run)])
        shots = np.searchsorted(cuts, np.arange(len(self.clips(run))), side="right")
        others = np.flatnonzero(shots != shots[index])
        if not len(others):  # the shots are not known, or there is but one
            others = np.delete(np.arange(len(shots)), index)
        return others[np.linspace(0, len(others) - 1, min(_NUM_OTHERS, len(others))).round().astype(int)]


def compare(decoded: VideoClip, clips: np.ndarray, index: int, others: np.ndarray) -> Similarity:
    """`Similarity` of one decoded clip to clip `index` of `clips` (N, F, H, W, 3), with `others` as the baseline."""
    truth = clips[index : index + 1]
    frames = video.resized(decoded, truth.shape[1], truth.shape[2:4])[None]
    distance = np.array([np.mean((frames[0] - clip.astype(np.float32)) ** 2) for clip in clips])
    repeated = np.repeat(frames, len(others), axis=0)
    return Similarity(
        ssim=float(metrics.ssim(frames, truth)[0]),
        ssim_others=float(np.mean(metrics.ssim(repeated, clips[others]))),
        psnr=float(metrics.psnr(frames, truth)[0]),
        psnr_others=float(np.mean(metrics.psnr(repeated, clips[others]))),
        rank=float(1 + (distance < distance[index]).sum() + ((distance == distance[index]).sum() - 1) / 2),
        count=len(clips),
    )


def thumbnail_sheet(clips: np.ndarray, columns: int = 16, size: int = 64) -> str:
    """The middle frame of each clip (N, F, H, W, 3) in one picture, `columns` beside each other, as a data address."""
    small = [video.resize(VideoClip(clip[len(clip) // 2][None], 1.0), size, size) for clip in clips]
    buffer = io.BytesIO()
    Image.fromarray(video.sprite_sheet(small, columns)).save(buffer, "JPEG", quality=82)
    return data_address(buffer.getvalue(), "image/jpeg")


def data_address(content: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address, which a page shows without asking any server."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
