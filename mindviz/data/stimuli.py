"""The films of Wen et al. 2018 and their captions, as found in a raw folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mindviz.storage import read_json
from mindviz.types import MindvizError, VideoClip
from mindviz.video import read_video

TR = 2.0
FPS = 3.0


def num_frames(volumes: int = 240) -> int:
    """Frames of the film during `volumes`: 1440 for 240."""
    return round(volumes * TR * FPS)


def read_film(video: Path, size: int) -> VideoClip:
    """The 1440 frames of an 8-minute film; up to 2 s of excess is cut, up to 2 s missing filled with the last frame.

    Raises
    ------
    MindvizError
        If the film is missing, unreadable, or differs more in length.
    """
    clip = read_video(video, fps=FPS, size=size)
    wanted, slack = num_frames(), round(2 * FPS)
    found = len(clip.frames)
    if abs(found - wanted) > slack:
        raise MindvizError(f"{video}: expected a film of {wanted / FPS:.0f} s, found {found / FPS:.1f} s")
    frames = clip.frames[np.minimum(np.arange(wanted), found - 1)]
    return VideoClip(frames, FPS)


def check_captions(path: Path, frames: int) -> dict[str, object]:
    """``{"captions": [one per frame], "shots": [...]}`` of a film; shots are optional."""
    content = read_json(path)
    captions = content.get("captions")
    if not isinstance(captions, list) or len(captions) != frames or not all(isinstance(c, str) for c in captions):
        found = f"{len(captions)} entries" if isinstance(captions, list) else type(captions).__name__
        raise MindvizError(f'{path}: expected "captions" with one text for each of {frames} frames, found {found}')
    if "shots" in content:
        _check_shots(path, content["shots"], frames)
    return {key: content[key] for key in ("captions", "shots") if key in content}


def _check_shots(path: Path, shots: object, frames: int) -> None:
    """Refuse shots that are not a list of ``{"start": …, "stop": …}`` in frames, one after the other.

    ``"held_out": true`` marks a shot whose combination no training film shows.
    """
    last = 0
    for shot in shots if isinstance(shots, list) else [shots]:
        notes = shot if isinstance(shot, dict) else {}
        found = [notes.get(name) for name in ("start", "stop")] if notes else []
        start, stop = (n if isinstance(n, int) else -1 for n in found or (-1, -1))
        if not last <= start < stop <= frames:
            raise MindvizError(
                f'{path}: expected "shots" as a list of {{"start": …, "stop": …}} in frames from 0 to {frames}, one '
                f"after the other, found {str(shot)[:80]}"
            )
        held_out = notes.get("held_out", False)
        if not isinstance(held_out, bool):
            raise MindvizError(f"{path}: expected held_out of a shot to be true or false, found {held_out!r}")
        last = stop
