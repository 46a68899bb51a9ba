"""One decoded scan as files that other programs read. Knows nothing of gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindviz import __version__, brain, storage, video
from mindviz.brain import Parcellation
from mindviz.session.answers import answers_of, answers_record
from mindviz.session.map_choice import CONTROLS_SAID, MapChoice, choose
from mindviz.session.map_names import label, layer_and_head
from mindviz.session.workspace import Similarity, Workspace
from mindviz.types import AttentionMap, Decoded, MindvizError, VideoClip, Window

DECODING_FILES = (
    "truth.mp4",
    "reconstruction.mp4",
    "side_by_side.mp4",
    "attention_hemi-L.func.gii",
    "attention_hemi-R.func.gii",
    "result.json",
)


def check_target(folder: Path, files: Sequence[str] = DECODING_FILES) -> Path:
    """The folder itself if it can be written whole: absent, empty, or holding an earlier export and nothing else.

    `files` are those that an export of its kind writes.

    Raises
    ------
    MindvizError
        Otherwise, and for the current working directory; other people's files are never replaced.
    """
    storage.replaceable(folder)
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in files) if folder.exists() else []
    if foreign:
        raise MindvizError(
            f"{folder}: expected a new or empty folder, found other files in it ({', '.join(foreign[:3])})"
        )
    return folder


def export(workspace: Workspace, decoded: Decoded, folder: Path, layer: int = -1, head: int = -1) -> Path:
    """Write `DECODING_FILES` into `folder`, all of them or none.

    Returns
    -------
    Path
        ``result.json``.
    """
    folder = check_target(folder)
    truth = workspace.dataset.clip(decoded.window.run, decoded.window.index)
    size = truth.frames.shape[1:3]
    same_size = VideoClip(video.resized(decoded.clip, len(decoded.clip.frames), size), decoded.clip.fps)
    attention = workspace.attention(decoded, layer, head)
    subject, choice = decoded.window.subject, choose("received", layer, head)
    surface = workspace.surface_map(subject, attention, label(workspace, subject, choice))
    about = gifti_metadata(map_record(workspace, subject, choice, attention), workspace.simulated)
    with storage.atomic_folder(folder) as target:
        video.write_mp4(target / "truth.mp4", truth)
        video.write_mp4(target / "reconstruction.mp4", decoded.clip)
        video.write_mp4(target / "side_by_side.mp4", video.side_by_side(truth, same_size))
        brain.write_gifti(surface, target, "attention", about)
        storage.write_json(target / "result.json", result(workspace, decoded, attention))
    return folder / "result.json"


def result(workspace: Workspace, decoded: Decoded, attention: AttentionMap) -> dict[str, Any]:
    """What was decoded, from what, how, and how like the truth it is."""
    window, dataset = decoded.window, workspace.dataset
    return {
        "mindviz": __version__,
        "simulated": workspace.simulated,
        "dataset": {"name": dataset.name, "folder": str(dataset.folder), "fingerprint": dataset.fingerprint},
        "scan": scan_record(workspace, window),
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
        "answers": answers_record(answers_of(workspace, window)),
        "provenance": decoded.provenance,
    }


def scan_record(workspace: Workspace, window: Window) -> dict[str, Any]:
    """Which scan it was, and what was shown then."""
    return {
        "subject": window.subject,
        "run": window.run,
        "index": window.index,
        "film_seconds": [window.index * workspace.tr, (window.index + 1) * workspace.tr],
        "clamped": window.clamped,
        "caption": workspace.caption(window.run, window.index),
    }


def map_record(workspace: Workspace, subject: str, choice: MapChoice, found: AttentionMap) -> dict[str, Any]:
    """What a map is: layers and heads from 0, -1 their mean, None for a method that has none; `position` is one scan of
    the window, from 0, None all of them."""
    named = layer_and_head(workspace, subject, choice) if choice.by_layer else (None, None)
    return {
        "label": label(workspace, subject, choice),
        "method": choice.method,
        "layer": choice.layer if choice.by_layer else None,
        "layer_name": named[0],
        "head": choice.head if choice.by_layer else None,
        "head_name": named[1],
        "position": choice.position if choice.position >= 0 else None,
        "parcellation": choice.parcels.name if choice.parcels else None,
        "control": choice.control or None,
        "control_is": CONTROLS_SAID.get(choice.control),
        "stage": found.stage,
        "units": choice.units,
        "caution": workspace.caution(choice.method),
    } | parcel_record(choice.parcels)


def parcel_record(by: Parcellation | None) -> dict[str, Any]:
    """Of which files the parcels of a lesion are."""
    return {"parcellation_files": [{"file": name, "sha256": digest} for name, digest in by.files]} if by else {}


def gifti_metadata(told: Mapping[str, Any], simulated: bool) -> dict[str, str]:
    """A `map_record` as the metadata of a GIFTI file: words only; what does not apply is left out."""
    said = {"Simulated": str(simulated).lower(), **{_camel(key): value for key, value in told.items()}}
    return {key: str(value) for key, value in said.items() if value is not None}


def _camel(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("_"))


def similarity_record(similarity: Similarity) -> dict[str, Any]:
    """`Similarity` as JSON, with chance beside what has one."""
    s = similarity
    return {
        "ssim": {"value": s.ssim, "to_clips_of_other_shots": s.ssim_others, "definition": "uniform 7 x 7 window"},
        "psnr_db": {"value": min(s.psnr, 99.0), "to_clips_of_other_shots": min(s.psnr_others, 99.0), "at_most": 99.0},
        "place_of_truth": {"value": s.rank, "of": s.count, "chance": (s.count + 1) / 2, "by": "pixel distance"},
    }
