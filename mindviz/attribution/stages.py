"""Figure 7 of the paper for any checkpoint: attention by layer, before and after contrast, and in the full model."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindviz import __version__
from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS, caution
from mindviz.brain import Projection, parcellations
from mindviz.checkpoint.subject import encoder_folder
from mindviz.data import Dataset
from mindviz.data.whole_runs import run_scans
from mindviz.decoder import Decoder
from mindviz.extensions.questions import READ_OUT, attention_layers
from mindviz.metrics.cortex import ParcelSummary, parcel_summary
from mindviz.metrics.inference import BLOCK, blocks
from mindviz.plots.cortex import FORMATS, save_figure
from mindviz.plots.stages import StagePanel, plot_stages
from mindviz.storage import atomic_folder, replaceable, write_json
from mindviz.types import MindvizError

STAGE_TITLES = {"mask": "Before contrast", "contrast": "After contrast", "full": "Full model"}
METHOD = "received"
BARS = "Bars: a network's share of the map over its share of the voxels, 1 where it has no more than its share"
_COLUMNS = ("mean", "share", "enrichment")


@dataclass(frozen=True)
class StageMap:
    """Attention received at one stage and layer: the mean map (V,) over clips, and its networks."""

    stage: str
    layer: int
    layer_name: str
    values: np.ndarray
    networks: ParcelSummary


def layers_shown(layers: Sequence[str]) -> list[tuple[int, str]]:
    """First, middle and last layer of a transformer, and the read-out after them where there is one: (index, name)."""
    depth = len(layers) - (READ_OUT in layers)
    chosen = sorted({0, depth // 2 if depth > 2 else 0, depth - 1}) if depth else []
    return [(i, layers[i]) for i in [*chosen, *range(depth, len(layers))]]


def shots_of(dataset: Dataset, run: str, count: int) -> np.ndarray:
    """The shot (count,) that the middle frame of each clip lies in; where none is known, its block of neighbours."""
    starts = [int(shot["start"]) for shot in dataset.shots(run)]
    if not starts:
        return blocks(count)
    middle = np.arange(count) * dataset.clip_frames + dataset.clip_frames // 2
    return np.searchsorted(np.array(starts), middle, side="right")


def intervals_of(dataset: Dataset, run: str, count: int) -> str:
    """What the intervals of `count` clips are, for figure and JSON."""
    if len(np.unique(shots_of(dataset, run, count))) < 2:
        return "no intervals: one shot, or block of clips, is too few"
    return f"95 %, bootstrap over {'shots' if dataset.shots(run) else f'blocks of {BLOCK} clips (no shots are known)'}"


def stage_maps(
    decoder: Decoder,
    dataset: Dataset,
    subject: str,
    run: str,
    parcellation: str = "yeo7",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[StageMap]:
    """Mean attention over a test run, for every stage that the checkpoint holds and the layers of `layers_shown`.

    Raises
    ------
    MindvizError
        If scans and checkpoint do not fit, or the mesh has no such parcellation.
    """
    parcels = parcellations.load(parcellation, dataset.mesh)
    windows = run_scans(dataset, subject)(run)
    shots = shots_of(dataset, run, len(windows))
    home = {s: encoder_folder(decoder.folder, subject, "full" if s == decoder.info.stage else s) for s in STAGE_TITLES}
    explainers = {s: Explainer(decoder, subject, s) for s in STAGE_TITLES if s == "full" or home[s].is_dir()}
    wanted = [(s, i, n) for s, e in explainers.items() for i, n in layers_shown(attention_layers(e.config))]
    found = []
    for done, (stage, layer, name) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        explainer = explainers[stage]
        maps = explainer.maps(windows, METHOD, layer)
        networks = parcel_summary(maps, explainer.data.vertices, parcels, shots, seed=seed)
        found.append(StageMap(stage, layer, name, maps.mean(axis=0), networks))
    if progress is not None:
        progress(len(wanted), len(wanted))
    return found


def write_stages(
    found: Sequence[StageMap],
    decoder: Decoder,
    dataset: Dataset,
    subject: str,
    run: str,
    out: Path,
    parcellation: str = "yeo7",
    seed: int = 0,
) -> Path:
    """Write attention_stages.pdf, .svg, .png, .csv and .json into a folder that is new or empty."""
    parcels = parcellations.load(parcellation, dataset.mesh)
    projection = Projection(dataset.run(subject, run).vertices, dataset.mesh, dataset.volume(subject))
    rows = [
        [_panel(one, projection, parcels) for one in found if one.stage == stage]
        for stage in STAGE_TITLES
        if any(one.stage == stage for one in found)
    ]
    title, simulated = f"{METHODS[METHOD].name}, subject {subject}", dataset.simulated or decoder.simulated
    said, scans = caution(decoder, METHOD), len(dataset.run(subject, run).bold)
    intervals = intervals_of(dataset, run, scans)
    figure = plot_stages(rows, METHODS[METHOD].units, title, simulated, caution=f"{said} {BARS}; {intervals}.")
    with atomic_folder(out) as aside:
        for ending in FORMATS:
            save_figure(figure, aside / f"attention_stages{ending}")
        _write_table(found, aside / "attention_stages.csv", simulated)
        write_json(
            aside / "attention_stages.json",
            {
                "mindviz": __version__,
                "simulated": simulated,
                "checkpoint": {"name": decoder.name, "folder": str(decoder.folder), **decoder.info.provenance},
                "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint, "mesh": dataset.mesh},
                "subject": subject,
                "run": run,
                "scans": scans,
                "method": METHOD,
                "caution": said,
                "parcellation": parcellation,
                "intervals": intervals,
                "seed": seed,
            },
        )
    return out / "attention_stages.pdf"


def require_new_or_empty(out: Path) -> None:
    """Refuse, before any long work, a folder that holds something."""
    if replaceable(out).exists() and any(out.iterdir()):
        raise MindvizError(f"{out}: expected a new or empty folder, found {next(out.iterdir()).name} in it")


def _panel(one: StageMap, projection: Projection, parcels: parcellations.Parcellation) -> StagePanel:
    networks = one.networks
    return StagePanel(
        STAGE_TITLES[one.stage],
        one.layer_name,
        projection.to_surface(one.values, f"attention {one.stage}"),
        networks.names,
        parcels.colors[[parcels.index(name) for name in networks.names]],
        networks.enrichment,
        networks.enrichment_interval,
    )


def _write_table(found: Sequence[StageMap], path: Path, simulated: bool) -> None:
    said = "yes" if simulated else "no"
    bounds = [f"{c}{suffix}" for c in _COLUMNS for suffix in ("", "_low", "_high")]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stage", "layer", "network", "voxels", *bounds, "simulated"])
        for one in found:
            n = one.networks
            for i, name in enumerate(n.names):
                cells = [
                    "" if np.isnan(value) else f"{value:.6g}"
                    for c in _COLUMNS
                    for value in (getattr(n, c)[i], *getattr(n, f"{c}_interval")[i])
                ]
                table.writerow([one.stage, one.layer_name, name, int(n.counts[i]), *cells, said])
