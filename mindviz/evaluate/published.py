"""Figures printed in papers, for context, and why they are not comparable with those of a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A line of a paper's table, as printed; None where no value is printed.

    Attributes
    ----------
    who, source : whose clips, and whose table.
    video_2, video_50, image_2, image_50 : n-way top-1 accuracy by a video and by an image classifier.
    ssim : structural similarity, uniform window.
    """

    who: str
    source: str
    video_2: float | None
    video_50: float | None
    image_2: float | None
    image_50: float | None
    ssim: float | None


PUBLISHED_COLUMNS = ("video, 2-way", "video, 50-way", "image, 2-way", "image, 50-way", "SSIM")
PUBLISHED = (
    Published(
        "MinD-Video, subject 1",
        "Chen, Qing & Zhou, NeurIPS 2023 (arXiv 2305.11675)",
        0.853,
        0.202,
        0.792,
        0.172,
        0.171,
    ),
    Published(
        "MinD-Video, mean of three subjects",
        "Gong et al., NeuroClips, NeurIPS 2024 (arXiv 2410.19452)",
        0.839,
        0.197,
        0.796,
        0.174,
        0.171,
    ),
    Published("NeuroClips, mean of three subjects", "the same", 0.834, 0.220, 0.806, 0.203, 0.390),
)
WHY = (
    "Numbers of different definitions do not compare: these are of real brains watching natural films (Wen et al. "
    "2018), judged by VideoMAE and ViT with the three best classes of the true clip counting as right, so that chance "
    "is 0.75 for 2-way and 0.058 for 50-way, not 0.5 and 0.02; another film, classifier, frame size, number of "
    "repeats or SSIM window gives other numbers for the same decoder."
)


def values(line: Published) -> tuple[float | None, ...]:
    """The numbers of a line in the order of `PUBLISHED_COLUMNS`."""
    return (line.video_2, line.video_50, line.image_2, line.image_50, line.ssim)
