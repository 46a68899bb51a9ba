"""One decoded scan as files that other programs read. Knows nothing of gradio."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindviz import __version__, brain, checkpoint, video
from mindviz.types import AttentionMap, Decoded, MindvizError, VideoClip
from mindviz.ui.workspace import Similarity, Workspace, resized

FILES = (
    "truth.mp4",
    "reconstruction.mp4",
    "side_by_side.mp4",
    "attention_hemi-L.func.gii",
    "attention_hemi-R.func.gii",
    "result.json",
)


def check_target(folder: Path) -> Path:
    """The folder itself if it can be written whole: absent, empty, or holding an earlier export and nothing else.

    Raises
    ------
    MindvizError
        Otherwise, and for the current working directory; other people's files are never replaced.
    """
    checkpoint.replaceable(folder)
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in FILES) if folder.exists() else []
    if foreign:
        raise MindvizError(
            f"{folder}: expected a new or empty folder, found other files in it ({', '.join(foreign[:3])})"
        )
    return folder


def export(workspace: Workspace, decoded: Decoded, folder: Path, layer: int = -1, head: int = -1) -> Path:
    """Write `FILES` into `folder`, all of them or none.

    Returns
    -------
    Path
        ``result.json``.
    """
    folder = check_target(folder)
    truth = workspace.dataset.clip(decoded.window.run, decoded.window.index)
    size = truth.frames.shape[1:3]
    same_size = VideoClip(resized(decoded.clip, len(decoded.clip.frames), size), decoded.clip.fps)
    attention = workspace.attention(decoded, layer, head)
    surface = workspace.surface_map(decoded.window.subject, attention)
    with checkpoint.atomic_folder(folder) as target:
        video.write_mp4(target / "truth.mp4", truth)
        video.write_mp4(target / "reconstruction.mp4", decoded.clip)
        video.write_mp4(target / "side_by_side.mp4", video.side_by_side(truth, same_size))
        brain.write_gifti(surface, target, "attention")
        checkpoint.write_json(target / "result.json", result(workspace, decoded, attention))
    return folder / "result.json"


def result(workspace: Workspace, decoded: Decoded, attention: AttentionMap) -> dict[str, Any]:
    """What was decoded, from what, how, and how like the truth it is."""
    window, dataset = decoded.window, workspace.dataset
    return {
        "mindviz": __version__,
        "simulated": workspace.simulated,
        "dataset": {"name": dataset.name, "folder": str(dataset.folder), "fingerprint": dataset.fingerprint},
        "scan": {
            "subject": window.subject,
            "run": window.run,
            "index": window.index,
            "film_seconds": [window.index * workspace.tr, (window.index + 1) * workspace.tr],
            "clamped": window.clamped,
            "caption": workspace.caption(window.run, window.index),
        },
        "settings": asdict(decoded.settings),
        "timings_seconds": {name: round(seconds, 4) for name, seconds in decoded.timings.items()},
        "similarity": similarity_record(workspace.similarity(decoded)),
        "attention": {
            "method": attention.method,
            "layer": attention.layer,
            "head": attention.head,
            "stage": attention.stage,
            "mesh": dataset.mesh,
            "note": workspace.caution("received"),
        },
        "provenance": decoded.provenance,
    }


def similarity_record(similarity: Similarity) -> dict[str, Any]:
    """`Similarity` as JSON, with chance beside what has one."""
    s = similarity
    return {
        "ssim": {"value": s.ssim, "to_clips_of_other_shots": s.ssim_others, "definition": "uniform 7 x 7 window"},
        "psnr_db": {"value": min(s.psnr, 99.0), "to_clips_of_other_shots": min(s.psnr_others, 99.0), "at_most": 99.0},
        "place_of_truth": {"value": s.rank, "of": s.count, "chance": (s.count + 1) / 2, "by": "pixel distance"},
    }
