"""``python -m mindviz lesion``: what each lesion of a scan does, as a table, and what is painted then, as a film."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindviz import storage, video
from mindviz.attribution import lesion
from mindviz.attribution.lesion import CAUTION, Change, Losses
from mindviz.brain import Parcellation
from mindviz.progress import Phases, no_phases
from mindviz.session import export
from mindviz.session.lesions import Lesions
from mindviz.session.map_export import source_record
from mindviz.session.scans import Scans
from mindviz.session.workspace import Workspace
from mindviz.types import Decoded, MindvizError, SamplingSettings, VideoClip

LESION_FILES = ("lesion.csv", "lesion.json", "lesion.mp4", "lesion.gif")
COLUMNS = (
    *("name", "voxels", "moved", "rank_before", "rank_after", "ssim_to_intact", "rmse_to_intact", "ssim_to_shown"),
    "simulated",
)
UNITS = "how far the tokens move; 1 = to the mean scan's"
MOST_PAINTED = 24


def save_lesions(
    workspace: Workspace,
    scan: Scans,
    by: str | Parcellation,
    folder: Path,
    names: Sequence[str] = (),
    top: int = 3,
    settings: SamplingSettings | None = None,
    phases: Phases = no_phases,
) -> Path:
    """Take every group out of a scan, paint some of what is left, and write `LESION_FILES` into `folder`, all or none.

    Parameters
    ----------
    scan : one scan, of a run with a film.
    folder : new, empty, or an earlier export of lesions, which is replaced.
    names, top : the groups that are painted (`mindviz.attribution.lesion.chosen_groups`).
    settings : of the decoding; the checkpoint's own where None.

    Returns
    -------
    Path
        ``lesion.json``, which tells where the lesions come from, and the baselines.

    Raises
    ------
    MindvizError
        For a folder that holds anything else, a scan, group or film that does not exist, or a checkpoint without a
        stored mean scan; before anything is computed.
    """
    folder = export.check_target(folder, LESION_FILES)
    if scan.index is None:
        raise MindvizError("a lesion is of one scan, found none")
    if not 0 <= top <= MOST_PAINTED or len(names) > MOST_PAINTED:
        raise MindvizError(f"expected 0 to {MOST_PAINTED} groups to decode, found {len(names) or top}")
    settings = settings or workspace.decoder.default_settings
    workspace.decoder.check_settings(settings)
    window = scan.windows(workspace)[0]
    shown = workspace.dataset.clip(scan.run, scan.index)
    groups = lesion.groups_of(workspace.explainer(scan.subject), by)
    for name in names:
        groups.index(name)
    lesions = Lesions(workspace)
    found = lesions.losses(window, by, phases)
    step = phases("Decoding")
    intact = workspace.decode(window.subject, window.run, window.index, settings, lambda n, total, *_: step(n, total))
    films = {i: lesions.film(intact, found, i, phases) for i in lesion.chosen_groups(found, names, top)}
    changes = {i: lesions.change(clip, intact) for i, clip in films.items()}
    seed = lesions.other_seed(intact, phases)
    told = _record(workspace, intact, found, changes, seed, by)
    with storage.atomic_folder(folder) as target:
        write_table(found, changes, target / "lesion.csv", workspace.simulated)
        grid = _grid(workspace, shown, intact, found, films, changes, seed)
        video.write_mp4(target / "lesion.mp4", grid)
        video.write_gif(target / "lesion.gif", grid)
        storage.write_json(target / "lesion.json", told)
    return folder / "lesion.json"


def write_table(found: Losses, changes: Mapping[int, Change], path: Path, simulated: bool) -> None:
    """A row for each group with `COLUMNS`, those that move the tokens farthest first; a cell is empty where there is no
    such number, and `simulated` is yes or no."""
    voxels = found.groups.voxels
    with storage.atomic_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        said = "yes" if simulated else "no"
        for i in found.order.tolist():
            ranks = ("", "") if found.ranks is None else (f"{found.rank:g}", f"{found.ranks[i]:g}")
            done = changes.get(i)
            figures = (done.ssim_intact, done.rmse_intact, done.ssim_shown) if done else ()
            cells = [f"{value:.6g}" for value in figures] or [""] * 3
            table.writerow([found.groups.names[i], int(voxels[i]), f"{found.moved[i]:.6g}", *ranks, *cells, said])


def _grid(
    workspace: Workspace,
    shown: VideoClip,
    intact: Decoded,
    found: Losses,
    films: Mapping[int, VideoClip],
    changes: Mapping[int, Change],
    seed: Change,
) -> VideoClip:
    """What was shown, the intact decoding and each lesion beside each other, with labels."""
    window = intact.window
    labels = ["What was shown", f"Decoded, intact (another seed: SSIM {seed.ssim_intact:.2f} to it)"]
    labels += [
        f"Without {found.groups.spoken(i)}: tokens move {found.moved[i]:.2f}, SSIM to intact {change.ssim_intact:.2f}"
        for i, change in changes.items()
    ]
    simulated = "Simulated data. " if workspace.simulated else ""
    which = f"Subject {window.subject}, {window.run}, scan {window.index}, seed {intact.settings.seed}."
    rate = intact.clip.fps  # what was shown may have another: its frames are taken evenly then
    frames = video.resized(shown, len(intact.clip.frames), shown.frames.shape[1:3])
    clips = [VideoClip(frames, rate), intact.clip, *films.values()]
    return video.labelled_grid(clips, labels, columns=5 if len(clips) == 5 else 4, note=f"{which} {simulated}{CAUTION}")


def _record(
    workspace: Workspace,
    intact: Decoded,
    found: Losses,
    changes: Mapping[int, Change],
    seed: Change,
    by: str | Parcellation,
) -> dict[str, Any]:
    """Where the lesions come from, and what their figures are to be read against."""
    window = intact.window
    shown = workspace.dataset.clip(window.run, window.index)
    files = export.parcel_record(by if isinstance(by, Parcellation) else None)
    place: dict[str, Any] = {"left_out": found.untold}
    if found.rank is not None:
        chance = (found.count + 1) / 2
        place = {"intact": found.rank, "of": found.count, "chance": chance, "by": "captions of the clips"}
    return source_record(workspace, window.subject) | {
        "scan": export.scan_record(workspace, window),
        "lesion": {
            "by": found.groups.by,
            **files,
            "groups": len(found.groups.names),
            "replaced_by": "the mean over the training scans",
            "units": UNITS,
            "caution": CAUTION,
        },
        "place_of_truth": place,
        "films": {
            "ssim": "uniform 7 x 7 window",
            "rmse": "grey levels, 0 to 255",
            "intact": {"ssim_shown": lesion.change(intact.clip, intact.clip, shown).ssim_shown},
            "another_seed_and_no_lesion": asdict(seed),
            "without": {found.groups.names[i]: asdict(one) for i, one in changes.items()},
        },
        "seed": intact.settings.seed,
        "settings": asdict(intact.settings),
        "provenance": intact.provenance,
        "files": list(LESION_FILES),
    }
