"""Where a decoding comes from: every method of attribution behind one interface, and the controls beside it.

Attention says where the encoder looked, gradients and lesions what its tokens depend on (`mindviz.brain`). Each control
is the same map of something that cannot know: an untrained encoder, scans whose voxels were shuffled in time, or no
preference at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mindviz.attribution.attention import attention_received, attention_rollout
from mindviz.attribution.gradients import gradient_attention, integrated_gradients
from mindviz.attribution.lesion_maps import groups_to_voxels, lesions
from mindviz.attribution.methods import CONTROLS, METHODS
from mindviz.attribution.patterns import embedding_directions, gradient_patterns
from mindviz.brain import parcellations
from mindviz.brain.parcellations import Parcellation
from mindviz.data.whole_runs import RunScans, shuffled_scans
from mindviz.decoder import Decoder
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.progress import Progress, silent
from mindviz.types import AttentionMap, LayerAttention, MindvizError, Window

WINDOWS_AT_A_TIME = 16
"""Windows whose attention is held at a time."""
PATTERN_COMPONENTS = 40
"""Directions of the tokens whose gradients are turned by the covariance; no more than a quarter of the scans."""


class Explainer:
    """Attribution for one subject's encoder of a checkpoint, after one of its training stages.

    Methods that look at a whole run (`Method.of_run`) need its `scans` (`run_scans`); the others go without.
    """

    def __init__(self, decoder: Decoder, subject: str, stage: str = "full", scans: RunScans | None = None) -> None:
        data = decoder.data(subject)
        if data is None:
            raise MindvizError(
                f"{decoder.folder}: expected a stored mean scan, found none: there is no baseline to compare with"
            )
        self.decoder, self.subject, self.data, self.scans = decoder, subject, data, scans
        self.stage = decoder.info.stage if stage == "full" else stage
        self.encoder: FMRIEncoder = decoder.encoder(subject, stage)
        self.baseline = self._tensor(data.negative)
        self._held: tuple[str, Tensor, Tensor] | None = None  # the last run that was asked for

    @property
    def config(self) -> EncoderConfig:
        return self.encoder.config

    @property
    def explained(self) -> np.ndarray:
        """The activation pattern (T, V) of the trained encoder."""
        if self.data.explained is None or self.stage != self.decoder.info.stage:
            raise MindvizError(
                f"{self.decoder.folder}: expected activation patterns of subject {self.subject}, stage {self.stage}, "
                "found none; the training scans are needed to make them (training.demo.publish)"
            )
        return self.data.explained

    def map(
        self, window: Window, method: str = "received", layer: int = -1, head: int = -1, position: int = -1
    ) -> AttentionMap:
        """The map of one window, as `maps`."""
        values = self.maps([window], method, layer, head, position=position)[0]
        return AttentionMap(values, layer, head, self.stage, method)

    def maps(
        self,
        windows: Sequence[Window],
        method: str = "received",
        layer: int = -1,
        head: int = -1,
        progress: Progress | None = None,
        position: int = -1,
        by: Parcellation | None = None,
    ) -> np.ndarray:
        """One map (V,) for each of N windows: (N, V), float32; magnitudes for gradients.

        Parameters
        ----------
        position : one scan of the window, from 0; -1 is the sum over them (attention and patterns: the mean).
        by : the parcels that ``"lesion_area"`` takes out one by one, each in both hemispheres at once where it lies in
            both; None for the areas of HCP-MMP, hemispheres apart. A voxel of no parcel is not tried: it is NaN.

        Raises
        ------
        MindvizError
            For an unknown method, layer, head or position, or windows or parcels that do not fit.
        """
        if by is not None and method != "lesion_area":
            raise MindvizError(f"a parcellation is for lesions of areas (lesion_area), found one for {method}")
        if method.startswith("lesion"):
            self._checked(method, layer, head, position)
            groups = self.patches() if method == "lesion_patch" else self.areas("hcp-mmp" if by is None else by)[0]
            found = lesions(self.encoder, self.tensors(windows), self.baseline, groups, progress=progress or silent)
            values = groups_to_voxels(found, groups)
            # what the encoder leaves out moves nothing; what lies in no parcel of theirs was not tried
            return np.nan_to_num(values) if by is None else values
        self._checked(method, layer, head, position)
        parts = self.by_scan(windows, method, layer, head, progress)
        if method == "integrated_gradients":
            parts = np.abs(parts)
            return parts.sum(axis=1) if position == -1 else parts[:, position]
        return parts.mean(axis=1) if position == -1 else parts[:, position]

    def by_scan(
        self,
        windows: Sequence[Window],
        method: str = "received",
        layer: int = -1,
        head: int = -1,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """The maps apart for each scan of the window, (N, T, V): which of them carries the information."""
        progress, bold = progress or silent, self.tensors(windows)
        if self._checked(method, layer, head) == "integrated_gradients":
            return integrated_gradients(self.encoder, bold, self.baseline, progress=progress)
        if method == "pattern":
            progress(len(bold), len(bold))
            return np.stack([self.explained] * len(bold))
        if method == "gradient_pattern":
            scans, directions = self._run(windows)
            return gradient_patterns(self.encoder, bold, scans, directions, WINDOWS_AT_A_TIME, progress)
        if method.startswith("lesion"):
            raise MindvizError("a lesion takes a group of voxels out of all scans of a window; ask for its maps")
        reduce = self._reducer(method, layer, head)
        parts = []
        for first in range(0, len(bold), WINDOWS_AT_A_TIME):
            progress(first, len(bold))
            parts.append(reduce(bold[first : first + WINDOWS_AT_A_TIME]))
        progress(len(bold), len(bold))
        return self.config.patching.to_voxels(np.concatenate(parts))

    def control(
        self,
        kind: str,
        windows: Sequence[Window],
        method: str = "received",
        layer: int = -1,
        head: int = -1,
        seed: int = 0,
        progress: Progress | None = None,
        position: int = -1,
        by: Parcellation | None = None,
    ) -> np.ndarray:
        """The control's map (V,), the mean over the windows.

        ``"untrained"``: of an encoder of random weights. ``"shuffled"``: of `shuffled_scans` (`seed`); a method that
        looks at the whole run has all of it shuffled. ``"uniform"``: the mean of the map everywhere. NaN where the map
        itself has no value.
        """
        if kind not in CONTROLS:
            raise MindvizError(f"a control needs to be one of {', '.join(CONTROLS)}, found {kind!r}")
        if method == "pattern":
            raise MindvizError("an activation pattern has no control here: it is of the training scans, not of these")
        asked = (method, layer, head, progress, position, by)
        if kind == "uniform":
            own = self.maps(windows, *asked).mean(axis=0)
            return np.where(np.isnan(own), own, np.nanmean(own, dtype=np.float64).astype(np.float32))
        if kind == "untrained":
            other = Explainer(self.decoder, self.subject, "untrained", self.scans)
            return other.maps(windows, *asked).mean(axis=0)
        if method in METHODS and METHODS[method].of_run:
            mixed = {w.index: w for w in shuffled_scans(self._of_run(windows), seed)}
            other = Explainer(self.decoder, self.subject, self.stage, lambda run: list(mixed.values()))
            return other.maps([mixed[w.index] for w in windows], *asked).mean(axis=0)
        return self.maps(shuffled_scans(windows, seed), *asked).mean(axis=0)

    # ------------------------------------------------------------------ groups of voxels
    def patches(self) -> np.ndarray:
        """The patch of each voxel, (V,); -1 for one that the encoder leaves out."""
        return self.config.patching.of_voxels()

    def areas(self, parcellation: str | Parcellation = "hcp-mmp") -> tuple[np.ndarray, tuple[str, ...]]:
        """The area of each voxel, (V,), and the areas' names; -1 for a voxel of none.

        Hemispheres are apart for one of our parcellations, by name; one that is given is taken as it is.

        Raises
        ------
        MindvizError
            For a parcellation of another mesh, or one that holds none of the voxels.
        """
        mesh = self.decoder.info.mesh or "fsLR-32k"
        parcels = (
            parcellations.load(parcellation, mesh).by_hemisphere() if isinstance(parcellation, str) else parcellation
        )
        if parcels.mesh != mesh:
            raise MindvizError(f"parcellation {parcels.name}: expected one of {mesh}, found one of {parcels.mesh}")
        labels = parcels.labels[self.data.vertices]
        held = np.unique(labels[labels > 0])
        if not held.size:
            raise MindvizError(f"parcellation {parcels.name}: expected parcels with voxels of the scans, found none")
        groups = np.where(labels > 0, np.searchsorted(held, labels), -1)
        return groups, tuple(parcels.names[i] for i in held)

    # ------------------------------------------------------------------ inside
    def tensors(self, windows: Sequence[Window]) -> Tensor:
        """Normalised windows (N, T, V), where the models are; refused for another subject, NaN or infinity."""
        if not windows:
            raise MindvizError("expected at least one window, found none")
        wrong = [w.subject for w in windows if w.subject != self.subject]
        if wrong:
            raise MindvizError(f"expected windows of subject {self.subject}, found one of subject {wrong[0]}")
        found = self._tensor(np.stack([self.decoder.normalise(w.bold, w.subject, w.run_std) for w in windows]))
        if not bool(torch.isfinite(found).all()):  # so small a deviation that what it divides overflows float32
            raise MindvizError(f"scans of subject {self.subject}: expected finite values, found others once normalised")
        return found

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.decoder.device)

    def _of_run(self, windows: Sequence[Window]) -> Sequence[Window]:
        """All windows of the run that these belong to."""
        if self.scans is None:
            raise MindvizError(
                "expected all scans of the run, whose covariance turns the gradients, found none: make the explainer "
                "with them (Explainer(…, scans=run_scans(dataset, subject)))"
            )
        runs = sorted({w.run for w in windows})
        if len(runs) != 1:
            raise MindvizError(f"expected windows of one run, whose covariance is taken, found {len(runs)} runs")
        return self.scans(runs[0])

    def _run(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """All scans of the run of these windows, normalised (N, T, V), and their `embedding_directions` (K, D)."""
        scans, run = self._of_run(windows), windows[0].run
        held = self._held
        if held is None or held[0] != run:
            bold = self.tensors(scans)
            components = max(1, min(PATTERN_COMPONENTS, len(bold) // 4))
            held = (run, bold, embedding_directions(self.encoder, bold, components, WINDOWS_AT_A_TIME))
            self._held = held
        return held[1:]

    def _checked(self, method: str, layer: int, head: int, position: int = -1) -> str:
        if method not in METHODS:
            raise MindvizError(f"a method needs to be one of {', '.join(METHODS)}, found {method!r}")
        if not METHODS[method].by_layer and (layer, head) != (-1, -1):
            raise MindvizError(f"{METHODS[method].name} has no layers and heads to choose, found {layer} and {head}")
        if not -1 <= position < self.config.window_size:
            raise MindvizError(
                f"a scan of the window needs to be -1 (all) or 0..{self.config.window_size - 1}, found {position}"
            )
        if position != -1 and not METHODS[method].by_position:
            raise MindvizError(f"{METHODS[method].name} takes voxels out of all scans of a window at once")
        return method

    def _reducer(self, method: str, layer: int, head: int) -> Callable[[Tensor], np.ndarray]:
        """Normalised windows (B, T, V) to values (B, T, P): the attention is reduced as soon as it is captured."""
        if method == "gradient_attention":
            return lambda bold: gradient_attention(self._attend, bold, self.baseline)

        def reduce(bold: Tensor) -> np.ndarray:
            with torch.no_grad():
                _, layers = self.encoder.encode(bold, attention=True)
            each = (_of_window(layers, i, len(bold)) for i in range(len(bold)))
            if method == "rollout":
                return np.stack([attention_rollout(one) for one in each])
            return np.stack([attention_received(one, layer, head) for one in each])

        return reduce

    def _attend(self, bold: Tensor) -> tuple[Tensor, list[LayerAttention[Tensor]]]:
        tokens, layers = self.encoder.encode(bold, attention=True)
        return tokens, layers


def _of_window(layers: Sequence[LayerAttention[Tensor]], index: int, count: int) -> list[LayerAttention[np.ndarray]]:
    """The attention of one window of a batch of `count`."""

    def part(softmax: Tensor) -> np.ndarray:
        found: np.ndarray = softmax.unflatten(0, (count, -1))[index].cpu().numpy()
        return found

    return [LayerAttention(part(spatial), None if over is None else part(over)) for spatial, over in layers]
