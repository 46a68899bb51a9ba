"""Lesions one can watch: what a decoding loses with a part of the cortex.

The voxels of a group (a network, an area, a patch of the encoder, a parcel of one's own) are replaced by their mean
over the training scans, in all scans of the window at once. Then: how far the condition tokens move, where the true
clip lands among the clips of the run, and what is painted with the seed and the settings of the intact decoding. One
group at a time: two that say the same stand in for each other, and neither is missed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindviz import metrics, video
from mindviz.attribution.embedding import SAME
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS
from mindviz.brain import parcellations
from mindviz.brain.parcellations import PARCELLATIONS, Parcellation
from mindviz.checkpoint.folder import read_clip
from mindviz.data import Dataset
from mindviz.diffusion.clip import as_words, text_tokens
from mindviz.metrics import cosine_similarity
from mindviz.progress import Progress, silent
from mindviz.types import MindvizError, SamplingSettings, VideoClip, Window

PATCH = "patch"
GROUPINGS = (*PARCELLATIONS, PATCH)
"""What can be taken out by name; the patches are the encoder's own."""
CAUTION = METHODS["lesion_area"].caution
_BY_HEMISPHERE = ("hcp-mmp",)  # its areas are one hemisphere's; networks span both
_BATCH = 16  # scans of a run that are encoded at a time


# ---------------------------------------------------------------------- what is taken out
@dataclass(frozen=True)
class Groups:
    """G groups of voxels, to be taken out one by one.

    Attributes
    ----------
    by : what they are groups of: one of `GROUPINGS`, or the name of a parcellation.
    of : ndarray of int, shape (V,): 0..G-1, or -1 for a voxel of none.
    names : of the groups.
    """

    by: str
    of: np.ndarray
    names: tuple[str, ...]

    @property
    def voxels(self) -> np.ndarray:
        """How many voxels each group has, (G,)."""
        return np.bincount(self.of[self.of >= 0], minlength=len(self.names))

    def spoken(self, group: int) -> str:
        """What a group is called in words: ``"V1 left"`` for the area ``"L_V1"``."""
        name = self.names[group]
        return f"{name[2:]} {'left' if name[0] == 'L' else 'right'}" if self.by in _BY_HEMISPHERE else name

    def index(self, name: str) -> int:
        """The number of a group; `MindvizError` names those that there are, and such as sound alike."""
        if name in self.names:
            return self.names.index(name)
        alike = difflib.get_close_matches(name, self.names, n=5, cutoff=0.5) or list(self.names[:5])
        more = ", …" if len(self.names) > len(alike) else ""
        raise MindvizError(f"expected a group of {self.by} that has voxels ({', '.join(alike)}{more}), found {name!r}")


def groups_of(explainer: Explainer, by: str | Parcellation) -> Groups:
    """The groups that `by` stands for: one of `GROUPINGS`, or a parcellation (`mindviz.brain.load_parcellation`).

    The areas of HCP-MMP are apart by hemisphere; networks, and the parcels of a parcellation that is given, are taken
    out of both at once. Only groups that have voxels are there.

    Raises
    ------
    MindvizError
        For an unknown name, or a parcellation that does not fit (`Explainer.areas`).
    """
    if isinstance(by, Parcellation):
        return Groups(by.name, *explainer.areas(by))
    if by == PATCH:
        patches = explainer.patches()
        return Groups(PATCH, patches, tuple(f"patch {i + 1}" for i in range(int(patches.max()) + 1)))
    if by not in PARCELLATIONS:
        raise MindvizError(f"groups are taken out by one of {', '.join(GROUPINGS)} or a parcellation, found {by!r}")
    if by in _BY_HEMISPHERE:
        return Groups(by, *explainer.areas(by))
    return Groups(by, *explainer.areas(parcellations.load(by, explainer.decoder.info.mesh or "fsLR-32k")))


def tokens_without(explainer: Explainer, window: Window, lost: np.ndarray) -> np.ndarray:
    """The condition tokens (S, D) of a window whose voxels `lost`, bool (V,), are their mean over the training scans.

    One window at a time, by the very steps of a decoding: what takes nothing away changes no bit.
    """
    return _encoded(explainer, _without(explainer, explainer.tensors([window]), lost)).cpu().numpy()


def _without(explainer: Explainer, bold: Tensor, lost: np.ndarray) -> Tensor:
    mask = torch.from_numpy(np.asarray(lost, dtype=bool)).to(bold.device)
    if mask.shape != bold.shape[-1:]:
        raise MindvizError(f"expected whether each of {bold.shape[-1]} voxels is lost, found shape {np.shape(lost)}")
    return torch.where(mask, explainer.baseline, bold)


@torch.no_grad()
def _encoded(explainer: Explainer, bold: Tensor) -> Tensor:
    """Tokens (S, D) of one normalised window (1, T, V), with attention as `Decoder.decode` asks for it."""
    return explainer.encoder.encode(bold, attention=True)[0][0].float()


# ---------------------------------------------------------------------- which clip was it
@dataclass(frozen=True)
class Candidates:
    """The N clips of a run as their captions tell them, and what the encoder says of all their scans alike.

    Attributes
    ----------
    different : ndarray (U, S', D), tokens of the different captions of the clips' middle frames.
    place : ndarray (N,), which of them a clip has.
    centre : ndarray (S', D), the mean of the encoder's tokens over the run.
    """

    different: np.ndarray
    place: np.ndarray
    centre: np.ndarray

    def rank(self, tokens: np.ndarray, own: int) -> float:
        """The place of clip `own`, from 1, by the similarity of tokens (S, D) with every clip's caption.

        As the report has it (`metrics.rows.identification_rows`): cosine, predictions and candidates each less their
        mean; clips of one caption share their places, half a place for each.
        """
        said = as_words(tokens[None], self.different)
        assert said is not None  # `candidates_of` has compared the shapes
        mean = self.different[self.place].mean(axis=0)
        alike = cosine_similarity(
            (said - self.centre).reshape(1, -1), (self.different - mean).reshape(len(self.different), -1)
        )[0][self.place]
        equal = int((alike == alike[own]).sum()) - 1
        return float(1 + (alike > alike[own]).sum() + equal / 2)

    @property
    def count(self) -> int:
        return len(self.place)


def candidates_of(explainer: Explainer, dataset: Dataset, run: str, progress: Progress = silent) -> Candidates | str:
    """The clips among which the true one is to be found, or the sentence that says why there are none."""
    count = min(len(dataset.run(explainer.subject, run).bold), len(dataset.film(run).frames) // dataset.clip_frames)
    captions = [dataset.captions(run, i) for i in range(count)]
    if not all(captions):
        return f"The place of the true clip is left out: the dataset has no captions of {run}."
    said = [of_clip[len(of_clip) // 2] for of_clip in captions]
    if len(set(said)) < 2:
        return f"The place of the true clip is left out: all clips of {run} have one caption."
    model = read_clip(explainer.decoder.folder)
    if model is None:
        return "The place of the true clip is left out: the checkpoint has no CLIP to read captions with."
    vocabulary, place = np.unique(np.array(said), return_inverse=True)
    different = text_tokens(model, vocabulary.tolist())
    centre = _mean_tokens(explainer, dataset, run, count, progress)
    words = as_words(centre[None], different)
    if words is None:
        return (
            f"The place of the true clip is left out: the encoder's tokens {centre.shape} are not like those of "
            f"captions {different.shape[1:]}."
        )
    return Candidates(different, place, words[0])


@torch.no_grad()
def _mean_tokens(explainer: Explainer, dataset: Dataset, run: str, count: int, progress: Progress) -> np.ndarray:
    total: np.ndarray | None = None
    for first in range(0, count, _BATCH):
        progress(first, count)
        indices = range(first, min(first + _BATCH, count))
        bold = explainer.tensors([dataset.window(explainer.subject, run, i) for i in indices])
        part = explainer.encoder(bold).double().sum(dim=0).cpu().numpy()
        total = part if total is None else total + part
    progress(count, count)
    assert total is not None  # a run has scans
    return total / count


# ---------------------------------------------------------------------- what is lost
@dataclass(frozen=True)
class Losses:
    """What losing each of G groups does to one window.

    Attributes
    ----------
    moved : ndarray (G,), how far the tokens move; 1 is as far as the mean scan's are. Losing all voxels is 1.
    rank, ranks : the place of the true clip among `count` clips before, and after each loss (G,), from 1; None where it
        cannot be told, and `untold` says why.
    """

    groups: Groups
    moved: np.ndarray
    rank: float | None = None
    ranks: np.ndarray | None = None
    count: int = 0
    untold: str = ""

    @property
    def order(self) -> np.ndarray:
        """The groups (G,), those that move the tokens farthest first."""
        return np.argsort(-self.moved, kind="stable")


def losses(
    explainer: Explainer, window: Window, groups: Groups, candidates: Candidates | str = "", progress: Progress = silent
) -> Losses:
    """Take each group out of a window, one at a time; `candidates` of the window's run, or why there are none.

    Raises
    ------
    MindvizError
        For a window that is encoded as the mean scan is, so that nothing can move.
    """
    bold = explainer.tensors([window])
    before, mean = (_encoded(explainer, part) for part in (bold, explainer.baseline[None]))
    reach = float((before - mean).norm())
    if not reach > SAME * float(mean.norm()):
        raise MindvizError(
            f"scan {window.index} of {window.run}: expected tokens other than the mean scan's, found the same"
        )
    known, own = None if isinstance(candidates, str) else candidates, window.index
    count, moved, ranks = len(groups.names), [], []
    for group in range(count):
        progress(group, count)
        after = _encoded(explainer, _without(explainer, bold, groups.of == group))
        moved.append(float((after - before).norm()) / reach)
        if known is not None:
            ranks.append(known.rank(after.cpu().numpy(), own))
    progress(count, count)
    if known is None:
        return Losses(groups, np.array(moved), untold=str(candidates))
    rank = known.rank(before.cpu().numpy(), own)
    return Losses(groups, np.array(moved), rank, np.array(ranks), known.count)


# ---------------------------------------------------------------------- what is painted
@dataclass(frozen=True)
class Change:
    """How far a film moved: SSIM (uniform window) and root mean squared error (grey levels, 0..255) to the intact
    decoding, and SSIM to what was shown."""

    ssim_intact: float
    rmse_intact: float
    ssim_shown: float


def change(clip: VideoClip, intact: VideoClip, shown: VideoClip) -> Change:
    """Compare a film with the intact decoding, of the same size, and with what was shown."""
    frames = video.resized(clip, len(shown.frames), shown.frames.shape[1:3])
    apart = clip.frames.astype(np.float64) - intact.frames
    return Change(
        ssim_intact=float(metrics.ssim(clip.frames[None], intact.frames[None])[0]),
        rmse_intact=float(np.sqrt(np.mean(apart**2))),
        ssim_shown=float(metrics.ssim(frames[None], shown.frames[None])[0]),
    )


def paint_without(
    explainer: Explainer,
    window: Window,
    lost: np.ndarray,
    negative_tokens: np.ndarray,
    settings: SamplingSettings,
    callback: Callable[..., None] | None = None,
) -> VideoClip:
    """The film of a window without the voxels `lost`, bool (V,).

    `negative_tokens` and `settings` are those of the intact decoding (`Decoder.negative_tokens`): what differs is the
    lesion alone.
    """
    tokens = tokens_without(explainer, window, lost)
    return explainer.decoder.decode_tokens(tokens, negative_tokens, settings, callback)


def chosen_groups(found: Losses, names: Sequence[str] = (), top: int = 3) -> tuple[int, ...]:
    """The groups that are painted: those named, or else the `top` that move the tokens farthest."""
    if names:
        return tuple(dict.fromkeys(found.groups.index(name) for name in names))
    return tuple(found.order[:top].tolist())
