"""The frames and captions that the generator's parts learn from: the training films, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from mindviz.data import Dataset
from mindviz.types import MindvizError


@dataclass(frozen=True)
class Corpus:
    """Training frames of several films, one after the other.

    Attributes
    ----------
    frames : ndarray, shape (N, H, W, 3), uint8
    captions : tuple of str, one per frame
    starts : ndarray of int: the first frame of each film, so that no clip reaches over the end of one
    """

    frames: np.ndarray
    captions: tuple[str, ...]
    starts: np.ndarray

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.captions):
            raise MindvizError(f"expected one caption per frame, found {len(self.frames)} and {len(self.captions)}")

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The different captions, sorted."""
        return tuple(sorted(set(self.captions)))

    @cached_property
    def caption_index(self) -> np.ndarray:
        """For each frame, its caption's place in `vocabulary`."""
        place = {c: i for i, c in enumerate(self.vocabulary)}
        return np.array([place[c] for c in self.captions])

    def clip_starts(self, length: int, one_caption: bool = True) -> np.ndarray:
        """Every frame at which a clip of `length` frames begins that stays in its film (and in one caption)."""
        edges = [*self.starts[1:], len(self.frames)]
        inside = [np.arange(a, b - length + 1) for a, b in zip(self.starts, edges, strict=True)]
        first = np.concatenate(inside)
        if not one_caption:
            return first
        # captions change at cuts: the same caption at both ends means one shot
        return first[self.caption_index[first] == self.caption_index[first + length - 1]]

    def pixels(self, indices: np.ndarray) -> Tensor:
        """Frames as float32 (n, 3, H, W) in 0..1."""
        return rearrange(torch.from_numpy(self.frames[indices]), "n h w c -> n c h w").float() / 255

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every frame and caption."""
        digest = sha256(np.ascontiguousarray(self.frames).data)
        digest.update("\n".join(self.captions).encode())
        return digest.hexdigest()


def from_dataset(dataset: Dataset, runs: tuple[str, ...], quiet: bool = False) -> Corpus:
    """The films that were shown in `runs`, with their captions."""
    captions: list[str] = []
    clips, starts, count = [], [], 0
    for run in tqdm(runs, desc="reading films", disable=quiet):
        film = dataset.film(run)
        clips.append(film.frames)
        for index in range(len(film.frames) // dataset.clip_frames):
            captions.extend(dataset.captions(run, index))
        starts.append(count)
        count += len(film.frames)
    return Corpus(np.concatenate(clips), tuple(captions), np.array(starts))
