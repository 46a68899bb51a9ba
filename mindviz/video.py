"""Clips in and out of files: mp4, gif, sprite sheets. Arrays are the truth; a lossy file is only a view of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont

from mindviz.types import MindvizError, VideoClip


def resize(clip: VideoClip, height: int, width: int, smooth: bool = True) -> VideoClip:
    """The clip at another size in pixels: bicubic, or nearest neighbour where not `smooth`."""
    if clip.frames.shape[1:3] == (height, width):
        return clip
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    frames = np.stack([np.asarray(Image.fromarray(f).resize((width, height), how)) for f in clip.frames])
    return VideoClip(frames, clip.fps)


def resized(clip: VideoClip, num_frames: int, size: tuple[int, int]) -> np.ndarray:
    """The clip as (num_frames, *size, 3) uint8: frames taken evenly, pixels by `resize`."""
    chosen = clip.frames[np.linspace(0, len(clip.frames) - 1, num_frames).round().astype(int)]
    return resize(VideoClip(chosen, clip.fps), *size).frames


def side_by_side(left: VideoClip, right: VideoClip, gap: int = 4) -> VideoClip:
    """Two clips of the same size and rate in one, `gap` white columns apart; the shorter one holds its last frame."""
    if left.frames.shape[1:] != right.frames.shape[1:] or left.fps != right.fps:
        raise MindvizError(
            f"clips side by side need one size and rate, found {left.frames.shape[1:3]} at {left.fps} "
            f"and {right.frames.shape[1:3]} at {right.fps} frames a second"
        )
    count = max(len(left.frames), len(right.frames))
    index = np.arange(count)
    a = left.frames[np.minimum(index, len(left.frames) - 1)]
    b = right.frames[np.minimum(index, len(right.frames) - 1)]
    bar = np.full((count, a.shape[1], gap, 3), 255, np.uint8)
    return VideoClip(np.concatenate([a, bar, b], axis=2), left.fps)


def labelled_grid(
    clips: Sequence[VideoClip], labels: Sequence[str], columns: int = 4, side: int = 256, note: str = ""
) -> VideoClip:
    """Clips of one rate in rows of `columns`, each fitted to `side` pixels below its label; `note` stands small below.

    A shorter clip holds its last frame. The sides in pixels are even, as an mp4 needs them.
    """
    if not clips or len(clips) != len(labels) or any(clip.fps != clips[0].fps for clip in clips):
        rates = ", ".join(f"{rate:g}" for rate in dict.fromkeys(clip.fps for clip in clips))
        raise MindvizError(
            "a grid needs clips of one rate and a label for each, "
            f"found {len(clips)} clips, {len(labels)} labels and the rates {rates or 'of none'}"
        )
    columns, count, gap = min(columns, len(clips)), max(len(clip.frames) for clip in clips), 8
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    heads = [_wrapped(label, font, side) for label in labels]
    foot = _wrapped(note, small, columns * (side + gap) - gap)
    head = 18 * max(map(len, heads)) + 4
    rows = math.ceil(len(clips) / columns)
    size = (gap + columns * (side + gap), gap + rows * (head + side + gap) + 14 * len(foot))
    page = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
    draw, corners = ImageDraw.Draw(page), []
    for i, lines in enumerate(heads):
        x, y = gap + i % columns * (side + gap), gap + i // columns * (head + side + gap)
        draw.text((x, y), "\n".join(lines), fill="black", font=font)
        corners.append((x, y + head))
    draw.text((gap, gap + rows * (head + side + gap)), "\n".join(foot), fill=(90, 90, 90), font=small)
    frames = np.repeat(np.asarray(page)[None], count, axis=0)
    for clip, (x, y) in zip(clips, corners, strict=True):
        height, width = (max(1, round(side * n / max(clip.frames.shape[1:3]))) for n in clip.frames.shape[1:3])
        shown = resize(clip, height, width).frames[np.minimum(np.arange(count), len(clip.frames) - 1)]
        frames[:, y : y + height, x : x + width] = shown
    return VideoClip(frames, clips[0].fps)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The lines of a text, none wider than `width` pixels unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def sprite_sheet(clips: list[VideoClip], columns: int) -> np.ndarray:
    """The middle frame of every clip in one picture, uint8 (rows * H, columns * W, 3); empty cells are black."""
    if not clips:
        raise MindvizError("a sprite sheet needs at least one clip, found none")
    cells = np.stack([c.frames[len(c.frames) // 2] for c in clips])
    rows = math.ceil(len(cells) / columns)
    pad = np.zeros((rows * columns - len(cells), *cells.shape[1:]), np.uint8)
    grid = np.concatenate([cells, pad])
    return rearrange(grid, "(r c) h w k -> (r h) (c w) k", r=rows, c=columns)


def _add_stream(container: av.container.OutputContainer, clip: VideoClip, lossless: bool) -> av.VideoStream:
    """H.264 that browsers play (4:2:0), or lossless RGB H.264 for stimuli, whose pixels must come back exactly."""
    rate = Fraction(clip.fps).limit_denominator(1000)
    options = {"crf": "0", "preset": "medium"} if lossless else {"crf": "14", "preset": "veryfast"}
    stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate, options=options)
    stream.height, stream.width = clip.frames.shape[1:3]
    stream.pix_fmt = "rgb24" if lossless else "yuv420p"
    return stream


def _encode(path: Path, clip: VideoClip, lossless: bool) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = _add_stream(container, clip, lossless)
        for picture in clip.frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_mp4(path: Path | str, clip: VideoClip, lossless: bool = False) -> Path:
    """Write an mp4, aside first and then renamed. `lossless` keeps every pixel (but browsers do not play it).

    4:2:0 video needs even sides: an odd one is refused.
    """
    path = Path(path)
    height, width = clip.frames.shape[1:3]
    if not lossless and (height % 2 or width % 2):
        raise MindvizError(f"{path}: an mp4 needs even sides in pixels, found {height} x {width}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        _encode(Path(aside) / path.name, clip, lossless)
        (Path(aside) / path.name).replace(path)
    return path


def mp4_bytes(clip: VideoClip, scale: int = 1) -> bytes:
    """The clip as the bytes of an mp4 that browsers play, enlarged `scale` times with bicubic interpolation."""
    height, width = (side * scale for side in clip.frames.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:  # faststart needs a real file
        return write_mp4(Path(folder) / "clip.mp4", resize(clip, height, width)).read_bytes()


def write_gif(path: Path | str, clip: VideoClip) -> Path:
    """Write a looping gif, aside first and then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(f) for f in clip.frames]
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        temporary = Path(aside) / path.name
        pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / clip.fps), loop=0
        )
        temporary.replace(path)
    return path


def _square(picture: Image.Image, size: int) -> Image.Image:
    """The centre square of a picture, `size` pixels wide, as the published code crops its stimuli."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.crop(box) if side == size else picture.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _decode(
    path: Path, container: av.container.InputContainer, fps: float | None, start: float, stop: float | None
) -> tuple[list[av.VideoFrame], float]:
    """The frames on screen at `start + (k + 1/2) / fps` (every frame where `fps` is None), in one pass."""
    stream = container.streams.video[0]
    own = float(stream.average_rate or 0)
    if own <= 0:
        raise MindvizError(f"{path}: expected a video stream with a frame rate, found none")
    rate = fps or own
    kept: list[av.VideoFrame] = []
    previous: av.VideoFrame | None = None
    for frame in container.decode(stream):
        time = float(frame.time or 0.0)
        while previous is not None and start + (len(kept) + 0.5) / rate < time - 1e-6:
            if stop is not None and start + (len(kept) + 0.5) / rate >= stop:
                return kept, rate
            kept.append(previous)
        previous = frame
    end = float(previous.time or 0.0) + 1 / own if previous is not None else 0.0
    end = end if stop is None else min(end, stop)
    while previous is not None and start + (len(kept) + 0.5) / rate < end - 1e-6:
        kept.append(previous)
    return kept, rate


def read_video(
    path: Path | str, fps: float | None = None, size: int | None = None, start: float = 0.0, stop: float | None = None
) -> VideoClip:
    """Read a video.

    Parameters
    ----------
    path : path of any video PyAV reads.
    fps : rate to sample at, by taking the frame on screen in the middle of each interval; None keeps the file's own.
    size : side in pixels of the centre square to cut out and resize; None keeps the file's size.
    start, stop : seconds.

    Raises
    ------
    MindvizError
        The file is missing, is no video, or holds no frame between `start` and `stop`.
    """
    path = Path(path)
    if not path.is_file():
        raise MindvizError(f"{path}: expected a video file, found none")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MindvizError(f"{path}: expected a video stream, found none")
            kept, rate = _decode(path, container, fps, start, stop)
            pictures = [np.asarray(_square(f.to_image(), size) if size else f.to_ndarray(format="rgb24")) for f in kept]
    except av.FFmpegError as error:
        raise MindvizError(f"{path}: expected a readable video, found a damaged or unknown file ({error})") from error
    if not pictures:
        raise MindvizError(f"{path}: expected frames between {start} s and {stop or 'the end'}, found none")
    return VideoClip(np.stack(pictures), rate)
