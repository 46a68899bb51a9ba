"""Where a decoding comes from: every method of attribution behind one interface, and the controls beside it.

Attention says where the encoder looked, gradients and lesions what its tokens depend on (`mindviz.brain`). Each control
is the same map of something that cannot know: an untrained encoder, scans whose voxels were shuffled in time, or no
preference at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mindviz.brain import parcellations
from mindviz.brain.attribution import attention_received, attention_rollout
from mindviz.brain.importance import (
    Progress,
    Softmax,
    gradient_attention,
    groups_to_voxels,
    integrated_gradients,
    lesioned,
    lesions,
    silent,
)
from mindviz.decoder import Decoder, encoder_voxels
from mindviz.encoder import EncoderConfig, FMRIEncoder
from mindviz.types import AttentionMap, LayerAttention, MindvizError, Window

CONTROLS = ("untrained", "shuffled", "uniform")
BATCH = 16
"""Windows whose attention is held at a time."""


@dataclass(frozen=True)
class Method:
    """How a method is called, what its numbers mean, and whether it can be asked for a layer and head."""

    name: str
    units: str
    caution: str
    by_layer: bool = False


_LOOKED = (
    "Attention is not importance: it tells which patches of cortex the encoder mixed, "
    "not which ones the video depends on."
)
_DEPENDS = (
    "What the decoding of this scan depends on. That is not only what tells of the film: a decoder also listens to "
    "voxels that share nothing but noise with those, to take it away."
)

METHODS: dict[str, Method] = {
    "received": Method("Attention received", "1 = every patch alike", _LOOKED, by_layer=True),
    "rollout": Method("Attention rollout", "1 = every patch alike", _LOOKED),
    "gradient_attention": Method("Attention weighted by its gradient", "1 = mean over patches", _LOOKED),
    "integrated_gradients": Method(
        "Integrated gradients", "share of the tokens' distance from the mean scan's", _DEPENDS
    ),
    "lesion_patch": Method("Lesion of a patch", "how far the tokens move; 1 = to the mean scan's", _DEPENDS),
    "lesion_area": Method("Lesion of an area (HCP-MMP)", "how far the tokens move; 1 = to the mean scan's", _DEPENDS),
    "pattern": Method(
        "Activation pattern",
        "share of the voxel's variance",
        "Where activity goes with what is decoded, over all training scans of the subject: the same for every scan.",
    ),
}


@dataclass(frozen=True)
class LesionEffect:
    """What losing each of G groups of voxels does to one window.

    Attributes
    ----------
    moved : (G,), as `mindviz.brain.importance.lesions`.
    rank : float, the place of the true clip among the candidates before; ranks : (G,), after. From 1.
    tokens : (G, S, D), to decode (`Decoder.decode_tokens`).
    """

    moved: np.ndarray
    rank: float
    ranks: np.ndarray
    tokens: np.ndarray


class Explainer:
    """Attribution for one subject's encoder of a checkpoint, after one of its training stages."""

    def __init__(self, decoder: Decoder, subject: str, stage: str = "full") -> None:
        data = decoder.data(subject)
        if data is None:
            raise MindvizError(
                f"{decoder.folder}: expected a stored mean scan, found none: there is no baseline to compare with"
            )
        self.decoder, self.subject, self.data = decoder, subject, data
        self.stage = decoder.info.stage if stage == "full" else stage
        self.encoder: FMRIEncoder = decoder.encoder(subject, stage)
        self.baseline = self._tensor(data.negative)

    @property
    def config(self) -> EncoderConfig:
        return self.encoder.config

    @property
    def explained(self) -> np.ndarray:
        """The activation pattern (T, V) of the trained encoder."""
        if self.data.explained is None or self.stage != self.decoder.info.stage:
            raise MindvizError(
                f"{self.decoder.folder}: expected activation patterns of subject {self.subject}, stage {self.stage}, "
                "found none; the training scans are needed to make them (training.publish)"
            )
        return self.data.explained

    def map(self, window: Window, method: str = "received", layer: int = -1, head: int = -1) -> AttentionMap:
        """The map of one window, summed (attention: averaged) over its scans; magnitudes for gradients."""
        values = self.maps([window], method, layer, head)[0]
        return AttentionMap(values, layer, head, self.stage, method)

    def maps(
        self,
        windows: Sequence[Window],
        method: str = "received",
        layer: int = -1,
        head: int = -1,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """One map (V,) for each of N windows: (N, V), float32.

        Raises
        ------
        MindvizError
            For an unknown method, layer or head, or windows that do not fit.
        """
        if method.startswith("lesion"):
            groups = self.patches() if self._checked(method, layer, head) == "lesion_patch" else self.areas()[0]
            found = lesions(self.encoder, self.tensors(windows), self.baseline, groups, progress=progress or silent)
            return np.nan_to_num(groups_to_voxels(found, groups))  # a voxel of no area was not tried: it moved nothing
        parts = self.by_scan(windows, method, layer, head, progress)
        return np.abs(parts).sum(axis=1) if method == "integrated_gradients" else parts.mean(axis=1)

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
        if method.startswith("lesion"):
            raise MindvizError("a lesion takes a group of voxels out of all scans of a window; ask for its maps")
        reduce = self._reducer(method, layer, head)
        parts = []
        for first in range(0, len(bold), BATCH):
            progress(first, len(bold))
            parts.append(reduce(bold[first : first + BATCH]))
        progress(len(bold), len(bold))
        return encoder_voxels(np.concatenate(parts), self.config)

    def control(
        self, kind: str, windows: Sequence[Window], method: str = "received", layer: int = -1, head: int = -1,
        seed: int = 0, progress: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The control's map (V,), the mean over the windows.

        ``"untrained"``: of an encoder of random weights. ``"shuffled"``: of `shuffled_scans` (`seed`). ``"uniform"``:
        the mean of the map everywhere.
        """
        if kind not in CONTROLS:
            raise MindvizError(f"a control needs to be one of {', '.join(CONTROLS)}, found {kind!r}")
        if method == "pattern":
            raise MindvizError("an activation pattern has no control here: it is of the training scans, not of these")
        if kind == "uniform":
            mean: np.ndarray = self.maps(windows, method, layer, head, progress).mean(dtype=np.float64)
            return np.full(len(self.data.vertices), mean, dtype=np.float32)
        if kind == "untrained":
            other = Explainer(self.decoder, self.subject, "untrained")
            return other.maps(windows, method, layer, head, progress).mean(axis=0)
        return self.maps(shuffled_scans(windows, seed), method, layer, head, progress).mean(axis=0)

    def lesion_effects(
        self, window: Window, groups: np.ndarray, candidates: np.ndarray, own: int, progress: Progress | None = None
    ) -> LesionEffect:
        """What losing each group does to the tokens, and to the true clip's place among candidates.

        Parameters
        ----------
        groups : ndarray of int, shape (V,): 0..G-1, or -1.
        candidates : ndarray, shape (M, S, D), tokens of clips; `own` is the row of the window's own clip.
        """
        if not 0 <= own < len(candidates):
            raise MindvizError(f"the window's own clip needs to be one of {len(candidates)} candidates, found {own}")
        bold = self.tensors([window])[0]
        with torch.no_grad():
            before, mean = self.encoder(torch.stack([bold, self.baseline]))
        if candidates.shape[1:] != before.shape:
            raise MindvizError(f"candidates need tokens of shape {tuple(before.shape)}, found {candidates.shape[1:]}")
        after = lesioned(self.encoder, bold, self.baseline, groups, progress=progress or silent)
        moved = (after - before).flatten(1).norm(dim=1) / (before - mean).norm()
        ranks = _ranks(torch.cat([before[None], after]), self._tensor(candidates), own)
        return LesionEffect(moved.cpu().numpy(), float(ranks[0]), ranks[1:], after.cpu().numpy())

    # ------------------------------------------------------------------ groups of voxels
    def patches(self) -> np.ndarray:
        """The patch of each voxel, (V,); -1 for one that the encoder leaves out."""
        place = np.arange(len(self.data.vertices))
        return np.where(place < self.config.patching.length, place // self.config.patch_size, -1)

    def areas(self, parcellation: str = "hcp-mmp") -> tuple[np.ndarray, tuple[str, ...]]:
        """The area of each voxel, hemispheres apart, (V,), and the areas' names; -1 for a voxel of none."""
        parcels = parcellations.load(parcellation, self.decoder.info.mesh or "fsLR-32k").by_hemisphere()
        labels = parcels.labels[self.data.vertices]
        held = np.unique(labels[labels > 0])
        groups = np.where(labels > 0, np.searchsorted(held, labels), -1)
        return groups, tuple(parcels.names[i] for i in held)

    # ------------------------------------------------------------------ inside
    def tensors(self, windows: Sequence[Window]) -> Tensor:
        """Normalised windows (N, T, V), where the models are."""
        if not windows:
            raise MindvizError("expected at least one window, found none")
        wrong = [w.subject for w in windows if w.subject != self.subject]
        if wrong:
            raise MindvizError(f"expected windows of subject {self.subject}, found one of subject {wrong[0]}")
        return self._tensor(np.stack([self.decoder.normalise(w.bold, w.subject, w.deviation) for w in windows]))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.decoder.device)

    def _checked(self, method: str, layer: int, head: int) -> str:
        if method not in METHODS:
            raise MindvizError(f"a method needs to be one of {', '.join(METHODS)}, found {method!r}")
        if not METHODS[method].by_layer and (layer, head) != (-1, -1):
            raise MindvizError(f"{METHODS[method].name} has no layers and heads to choose, found {layer} and {head}")
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

    def _attend(self, bold: Tensor) -> tuple[Tensor, list[Softmax]]:
        tokens, layers = self.encoder.encode(bold, attention=True)
        return tokens, [Softmax(*layer) for layer in layers]


def shuffled_scans(windows: Sequence[Window], seed: int = 0) -> list[Window]:
    """Windows in which every voxel has the values of another window, each voxel so many windows further on.

    How far is drawn from 1 to N - 1 for each voxel, so that none keeps its own and hardly two fit each other.
    """
    if len(windows) < 2:
        raise MindvizError(f"at least two windows are needed to shuffle their voxels, found {len(windows)}")
    runs = {(w.subject, w.run) for w in windows}
    if len(runs) > 1:
        raise MindvizError(f"expected windows of one run to shuffle, found {len(runs)} runs: their scales differ")
    bold = np.stack([w.bold for w in windows])
    further = np.random.default_rng(seed).integers(1, len(bold), bold.shape[2])
    order = (np.arange(len(bold))[:, None] + further) % len(bold)
    mixed = np.take_along_axis(bold, order[:, None], axis=0)
    return [replace(w, bold=part) for part, w in zip(mixed, windows, strict=True)]


def _of_window(layers: Sequence[tuple[Tensor, Tensor | None]], index: int, count: int) -> list[LayerAttention]:
    """The attention of one window of a batch of `count`."""

    def part(softmax: Tensor) -> np.ndarray:
        found: np.ndarray = softmax.unflatten(0, (count, -1))[index].cpu().numpy()
        return found

    return [LayerAttention(part(spatial), None if over is None else part(over)) for spatial, over in layers]


def _ranks(tokens: Tensor, candidates: Tensor, own: int) -> np.ndarray:
    """The place (B,), from 1, of candidate `own` among M (M, S, D) by cosine similarity with tokens (B, S, D).

    The candidates' mean is taken off both: what all clips share tells none from another.
    """
    mean = candidates.mean(dim=0)
    known = torch.nn.functional.normalize((candidates - mean).flatten(1), dim=1)
    said = torch.nn.functional.normalize((tokens - mean).flatten(1), dim=1)
    similarity = said @ known.T
    mine = similarity[:, own : own + 1]
    above, equal = (similarity > mine).sum(dim=1), (similarity == mine).sum(dim=1) - 1
    found: np.ndarray = (1 + above + equal / 2).cpu().numpy()
    return found
