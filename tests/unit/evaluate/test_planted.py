"""Maps against a planted truth in the report: each method by brute force, and no section if none is planted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindviz.attribution.explainer import Explainer
from mindviz.attribution.methods import METHODS
from mindviz.data import Dataset
from mindviz.data.whole_runs import run_scans
from mindviz.decoder import Decoder
from mindviz.evaluate.page import MAPS_TITLE, html, map_rows, markdown
from mindviz.evaluate.planted import NO_TRUTH, WITHOUT_INTERVAL, Agreement, MapScore, Planted, planted_truth
from mindviz.evaluate.report import Report, write
from mindviz.evaluate.setup import Options, Setup, open_setup
from mindviz.storage import save_arrays, write_json
from mindviz.types import MindvizError

pytestmark = pytest.mark.slow  # every method, of six clips

DRIVERS = ("nothing", "motion energy", "sound track (decoy)")


def plant(folder: Path, drivers: np.ndarray, ceiling: np.ndarray) -> None:
    arrays = {"driver": drivers.astype(np.uint8), "noise_ceiling": ceiling.astype(np.float32)}
    save_arrays(folder / "subject1" / "truth.safetensors", arrays)
    write_json(folder / "subject1" / "truth.json", {"drivers": list(DRIVERS)})


@pytest.fixture(scope="module")
def setup(tiny_dataset: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("planted") / "data"
    shutil.copytree(tiny_dataset, folder)
    rng = np.random.default_rng(1)
    plant(folder, rng.integers(0, 3, 59412), rng.random(59412))
    return open_setup(Options(tiny_checkpoint, folder, "1", folder / "out", map_clips=6))


@pytest.fixture(scope="module")
def found(setup: Setup) -> Planted:
    return planted_truth(setup)


def test_every_method_is_scored_beside_the_untrained_encoder(found: Planted) -> None:
    assert [s.method for s in found.scores] == list(METHODS)
    assert found.clips == 6 and found.answering + found.others == 320 and not found.missing
    for score in found.scores:
        assert (score.untrained is None) == (score.method == "pattern")
        for agreed in (score.trained, *([score.untrained] if score.untrained else [])):
            if score.method in WITHOUT_INTERVAL:  # the maps of all clips use the same scans
                assert agreed.auroc_interval is agreed.rho_interval is None and agreed.auroc is not None
                continue
            low, high = agreed.auroc_interval
            assert 0 <= low <= high <= 1 and low - 0.1 <= agreed.auroc <= high + 0.1
            assert -1 <= agreed.rho_interval[0] <= agreed.rho_interval[1] <= 1


@pytest.mark.parametrize("method", ["gradient_pattern", "lesion_patch", "pattern"])
def test_a_score_equals_brute_force(setup: Setup, found: Planted, method: str) -> None:
    """Clips 0, 2, 4, 7, 9, 11; all pairs of a voxel that responds and one that does not."""
    explainer = Explainer(setup.decoder, "1", scans=run_scans(setup.dataset, "1"))
    windows = [setup.dataset.window("1", "test1", i) for i in (0, 2, 4, 7, 9, 11)]
    values = explainer.maps(windows, method).mean(axis=0)
    answers = setup.dataset.truth("1").driver[setup.decoder.vertices("1")] == 1
    yes, no = values[answers][:, None], values[~answers]
    score = next(s for s in found.scores if s.method == method).trained
    assert score.auroc == pytest.approx(((yes > no) + (yes == no) / 2).mean(), abs=2e-3)


def test_the_section_is_in_all_three_files(setup: Setup, found: Planted, tmp_path: Path) -> None:
    content = write(Report("T", {"a": 1}, (), {}, (), found), tmp_path)
    told = json.loads((tmp_path / "report.json").read_text())["maps against the planted truth"]
    assert told == json.loads(json.dumps(content["maps against the planted truth"]))
    assert [s["method"] for s in told["scores"]] == list(METHODS) and told["about"] == found.about
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert MAPS_TITLE in text and found.about[:60] in text
        for row in map_rows(found):
            assert all(cell.replace("'", "&#x27;" if name.endswith("html") else "'") in text for cell in row)


def test_without_a_truth_a_sentence_replaces_the_section(setup: Setup, tiny_dataset: Path, tmp_path: Path) -> None:
    without = planted_truth(replace(setup, dataset=Dataset.open(tiny_dataset)))
    assert without == Planted(missing=NO_TRUTH) and without.record() == {"missing": NO_TRUTH}
    for page in (markdown("T", {}, (), {}, (), without), html("T", {}, (), {}, (), without)):
        assert MAPS_TITLE not in page and f"Maps: {NO_TRUTH}." in page
    none = planted_truth(replace(setup, options=replace(setup.options, map_clips=0)))
    assert "--map-clips 0" in none.missing


def test_a_checkpoint_without_a_mean_scan_says_so(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "data", lambda *_: None)
    assert "no mean scan" in planted_truth(setup).missing


def test_the_report_names_methods_without_an_interval(found: Planted) -> None:
    assert {"gradient_pattern", "pattern"} == WITHOUT_INTERVAL
    names = f"{METHODS['gradient_pattern'].name} and {METHODS['pattern'].name}"
    assert f"none for {names}, where the maps of all clips are made of the same scans" in found.about
    rows = {row[0]: row for row in map_rows(found)}
    assert "to" not in rows[METHODS["gradient_pattern"].name][1] and "to" in rows[METHODS["lesion_patch"].name][1]
    assert "none for" not in Planted().about


def test_an_error_in_a_method_does_not_lose_the_report(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MindvizError("expected finite values, found NaN.")

    monkeypatch.setattr(Explainer, "maps", refuse)
    assert planted_truth(setup) == Planted(missing="expected finite values, found NaN")
    monkeypatch.setattr(Dataset, "truth", refuse)
    assert "found NaN" in planted_truth(setup).missing


def test_undefined_scores_are_shown_as_a_dash(setup: Setup, tmp_path: Path) -> None:
    """If all voxels respond, AUROC is undefined: None in JSON, because NaN is not valid JSON."""
    folder = tmp_path / "data"
    shutil.copytree(setup.dataset.folder, folder)
    plant(folder, np.ones(59412), np.linspace(0, 1, 59412))
    found = planted_truth(replace(setup, dataset=Dataset.open(folder)))
    assert all(s.trained.auroc is None and s.trained.auroc_interval is None for s in found.scores)
    assert all(row[1] == "-" for row in map_rows(found)) and "none does" in found.about
    assert "NaN" not in json.dumps(found.record(), allow_nan=False)


def test_the_aim_counts_lesions_and_gradients_only() -> None:
    good, poor = (Agreement(a, (a, a), 0.1, (0.0, 0.2)) for a in (0.95, 0.6))
    scores = [MapScore("pattern", "Fitted", good, None), MapScore("lesion_area", "Areas", poor, poor)]
    assert "none does" in Planted(tuple(scores), 2, 1, 1).about
    scores.append(MapScore("gradient_pattern", "Turned", good, poor))
    assert "it is by Turned." in Planted(tuple(scores), 2, 1, 1).about
