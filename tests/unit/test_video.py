"""Clips to files and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindviz import video
from mindviz.types import MindvizError, VideoClip


def _clip(frames: int = 6, height: int = 32, width: int = 48, fps: float = 3.0) -> VideoClip:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (frames, height // 8, width // 8, 3), dtype=np.uint8)
    return VideoClip(small.repeat(8, 1).repeat(8, 2), fps)


def test_a_lossless_mp4_comes_back_exactly(tmp_path: Path) -> None:
    clip = _clip()
    back = video.read_video(video.write_mp4(tmp_path / "a.mp4", clip, lossless=True))
    assert back.fps == 3.0 and np.array_equal(back.frames, clip.frames)


def test_an_mp4_for_the_browser_comes_back_nearly(tmp_path: Path) -> None:
    clip = _clip(height=64, width=64)
    back = video.read_video(video.write_mp4(tmp_path / "a.mp4", clip))
    assert back.frames.shape == clip.frames.shape and back.fps == 3.0
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 8


def test_sampling_takes_the_frame_on_screen_in_the_middle_of_each_interval(tmp_path: Path) -> None:
    frames = np.zeros((60, 16, 16, 3), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    path = video.write_mp4(tmp_path / "a.mp4", VideoClip(frames, 30.0), lossless=True)
    assert video.read_video(path, fps=3.0).frames[:, 0, 0, 0].tolist() == [5, 15, 25, 35, 45, 55]
    assert video.read_video(path, fps=3.0, start=1.0, stop=2.0).frames[:, 0, 0, 0].tolist() == [35, 45, 55]


def test_a_wide_video_gives_its_centre_square(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 32, 3), np.uint8)
    frames[:, :, 8:24] = 200
    path = video.write_mp4(tmp_path / "a.mp4", VideoClip(frames, 3.0), lossless=True)
    assert (video.read_video(path, size=16).frames == 200).all()
    assert video.read_video(path, size=8).frames.shape == (2, 8, 8, 3)


def test_side_by_side_keeps_both_and_holds_the_shorter(tmp_path: Path) -> None:
    left, right = _clip(4), _clip(2)
    both = video.side_by_side(left, right, gap=2)
    assert both.frames.shape == (4, 32, 98, 3)
    assert np.array_equal(both.frames[:, :, :48], left.frames)
    assert np.array_equal(both.frames[3, :, 50:], right.frames[1])
    with pytest.raises(MindvizError, match="one size and rate"):
        video.side_by_side(left, _clip(4, fps=5.0))


def test_a_sprite_sheet_shows_middle_frames_in_order() -> None:
    clips = [_clip(3) for _ in range(3)]
    sheet = video.sprite_sheet(clips, columns=2)
    assert sheet.shape == (64, 96, 3)
    assert np.array_equal(sheet[:32, 48:], clips[1].frames[1]) and not sheet[32:, 48:].any()
    with pytest.raises(MindvizError, match="at least one clip"):
        video.sprite_sheet([], 2)


def test_a_gif_has_every_frame(tmp_path: Path) -> None:
    path = video.write_gif(tmp_path / "a.gif", _clip(5))
    assert getattr(Image.open(path), "n_frames", 1) == 5


@pytest.mark.parametrize("content", [b"", b"not a video at all"])
def test_a_damaged_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(MindvizError, match=r"bad\.mp4: expected a readable video"):
        video.read_video(path)


def test_a_missing_video_and_an_empty_interval_are_named(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match=r"none\.mp4: expected a video file"):
        video.read_video(tmp_path / "none.mp4")
    path = video.write_mp4(tmp_path / "a.mp4", _clip(), lossless=True)
    with pytest.raises(MindvizError, match="expected frames between 10 s"):
        video.read_video(path, start=10)


def test_odd_sides_and_wrong_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match="even sides"):
        video.write_mp4(tmp_path / "a.mp4", VideoClip(np.zeros((2, 15, 16, 3), np.uint8), 3.0))
    assert not list(tmp_path.iterdir())
    for frames in (
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 16), np.uint8),
        np.zeros((0, 16, 16, 3), np.uint8),
    ):
        with pytest.raises(MindvizError, match="uint8 frames"):
            VideoClip(frames, 3.0)
    with pytest.raises(MindvizError, match="positive frame rate"):
        VideoClip(np.zeros((2, 16, 16, 3), np.uint8), 0)
