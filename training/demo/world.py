"""The demo world from nothing: films, three subjects who watch them, raw files, and the prepared dataset.

    python -m training.demo.world --out runs/demo --discard-raw

Writes ``OUT/raw`` (the layout of Wen 2018), ``OUT/films`` (features of the films) and ``OUT/data`` (the prepared
dataset). An interrupted run goes on where it stopped; everything follows from the recipe's seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mindviz.data import cleaning
from mindviz.data.preparation import Preparation, PrepareOptions
from mindviz.data.wen2018 import LABEL, expected_repeats
from mindviz.simulate import features, films, forward, raw
from mindviz.simulate.areas import DRIVERS
from mindviz.simulate.subjects import Subject, SubjectSpec, make_subject
from mindviz.storage import atomic_file, load_arrays, save_arrays, write_json
from mindviz.types import MindvizError
from mindviz.video import write_mp4

VOLUMES = 245

DEMO_SUBJECTS = (
    SubjectSpec("1", lag=0.0, noise=1.6, spontaneous=1.6),
    SubjectSpec("2", lag=0.4, noise=2.5, spontaneous=1.0),
    SubjectSpec("3", lag=-0.3, noise=1.2, spontaneous=0.6),
)


@dataclass(frozen=True)
class WorldRecipe:
    """Everything that defines a demo world."""

    seed: int = 0
    train: tuple[str, ...] = films.TRAINING_FILMS
    test: tuple[str, ...] = films.TEST_FILMS
    subjects: tuple[SubjectSpec, ...] = DEMO_SUBJECTS
    name: str = "Simulated demo"
    options: PrepareOptions = field(
        default_factory=lambda: PrepareOptions(
            "Simulated demo", simulated=True, frame_size=64, lossless=True, keep_repeats=True
        )
    )

    @property
    def films(self) -> tuple[str, ...]:
        return (*self.train, *self.test)


@dataclass(frozen=True)
class FilmFeatures:
    """Standardised features of every film, by film and driver, and their covariance over the training films."""

    features: Mapping[str, Mapping[str, np.ndarray]]
    covariance: Mapping[str, np.ndarray]

    def subject(self, spec: SubjectSpec) -> Subject:
        return make_subject(spec, self.covariance)


def _write_stimulus(folder: Path, film: films.Film) -> None:
    """``NAME.mp4`` without loss, and ``NAME.json`` with its captions and shots."""
    shots = [dataclasses.asdict(shot) | {"held_out": shot.held_out} for shot in film.shots]
    notes = {"captions": list(film.captions), "shots": shots}
    with atomic_file(folder / f"{film.name}.json") as temporary:
        temporary.write_text(json.dumps(notes) + "\n", encoding="utf-8")
    write_mp4(folder / f"{film.name}.mp4", film.clip, lossless=True)


def make_films(recipe: WorldRecipe, out: Path) -> FilmFeatures:
    """Draw the films, write them to ``OUT/raw/stimuli``, their features to ``OUT/films``; read what is there."""
    files = {name: out / "films" / f"{name}.safetensors" for name in recipe.films}
    stimuli = out / "raw" / "stimuli"
    if not all(f.is_file() and (stimuli / f"{name}.mp4").is_file() for name, f in files.items()):
        drawn = []
        for film in tqdm(films.demo_films(recipe.seed, recipe.films), "films", len(files)):
            _write_stimulus(stimuli, film)
            drawn.append(film)
        meanings = features.Meanings.of(drawn)
        each = [features.film_features(f, meanings, recipe.seed) for f in tqdm(drawn, "features")]
        for name, values in zip(recipe.films, forward.standardise(each), strict=True):
            save_arrays(files[name], values)
    every = {name: load_arrays(file) for name, file in files.items()}
    return FilmFeatures(every, forward.response_covariance([every[name] for name in recipe.train]))


def write_truth(folder: Path, subject: Subject, response: np.ndarray, repeats: int) -> None:
    """What drives each vertex, and the noise ceiling of the mean of `repeats` of the run of this response."""
    kept = cleaning.kept_volumes(VOLUMES)
    variances = []
    for i in range(3):
        rng = subject.spec.rng("ceiling", str(i))
        noise = subject.spec.noise * forward.noise(rng, VOLUMES) + forward.spontaneous(rng, subject, response)
        variances.append(cleaning.detrend(noise[:, kept]).var(axis=1))
    ceiling = forward.noise_ceiling(cleaning.detrend(response[:, kept]), np.mean(variances, axis=0), repeats)
    save_arrays(folder / "truth.safetensors", {"driver": subject.driver, "noise_ceiling": ceiling.astype(np.float16)})
    write_json(folder / "truth.json", {"drivers": list(DRIVERS), "simulated": True})


@lru_cache(maxsize=1)
def _loaded(recipe: WorldRecipe, out: Path) -> FilmFeatures:
    return make_films(recipe, out)


@lru_cache(maxsize=1)
def _subject(recipe: WorldRecipe, out: Path, spec: SubjectSpec) -> Subject:
    return _loaded(recipe, out).subject(spec)


def make_run(recipe: WorldRecipe, out: Path, spec: SubjectSpec, run: str, discard_raw: bool) -> None:
    """Simulate all repeats of one run of one subject, write them raw, and prepare them."""
    preparation = Preparation(out / "data", recipe.options)
    is_first_test = run in recipe.test[:1]
    if preparation.has_run(spec.name, run) and not is_first_test:
        return
    subject = _subject(recipe, out, spec)
    response = forward.responses(subject, _loaded(recipe, out).features[run], VOLUMES)
    if not preparation.has_run(spec.name, run):
        paths = raw.write_run(out / "raw", subject, response, run, expected_repeats(run))
        preparation.add_run(spec.name, run, paths)
        if discard_raw:
            shutil.rmtree(paths[0].parents[1])
    if is_first_test:
        write_truth(preparation.folder / f"subject{spec.name}", subject, response, expected_repeats(run))


def make_runs(recipe: WorldRecipe, out: Path, discard_raw: bool, workers: int) -> None:
    """All runs of all subjects, in `workers` processes."""
    jobs = [(spec, run) for spec in recipe.subjects for run in recipe.films]
    total = sum(expected_repeats(run) for _, run in jobs)
    with (
        tqdm(total=total, desc="runs", unit="file") as bar,
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool,
    ):
        futures = {pool.submit(make_run, recipe, out, spec, run, discard_raw): run for spec, run in jobs}
        try:
            for future in as_completed(futures):
                future.result()
                bar.update(expected_repeats(futures[future]))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or the other runs would be made before the error is shown
            raise


def _check_recipe(recipe: WorldRecipe, out: Path) -> None:
    """A folder holds one recipe: what was begun with another one cannot be continued."""
    path, content = out / "recipe.json", json.loads(json.dumps(dataclasses.asdict(recipe)))
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise MindvizError(
            f"{path}: expected this recipe, found that of another world; give another --out or remove it"
        )
    write_json(path, content)


def label_raw(recipe: WorldRecipe, out: Path) -> None:
    """Say beside the raw files that they are simulated, for whoever prepares them again."""
    write_json(out / "raw" / LABEL, {"simulated": recipe.options.simulated, "name": recipe.options.name})


def make_world(
    recipe: WorldRecipe, out: Path, discard_raw: bool = False, workers: int = 2, only: Sequence[str] = ()
) -> Path:
    """Make the whole demo world below `out`; returns the prepared dataset's folder.

    Parameters
    ----------
    discard_raw : delete each raw run (12 GB in all) once it has been prepared; the films stay.
    workers : processes; each needs about 1 GB.
    only : subjects to make again; the others stay as they are in the prepared dataset. All by default.
    """
    out = Path(out)
    if not only:
        _check_recipe(recipe, out)
    make_films(recipe, out)
    preparation = Preparation(out / "data", recipe.options)
    for film in tqdm(recipe.films, "stimuli"):
        preparation.add_stimulus(film, out / "raw" / "stimuli" / f"{film}.mp4")
    chosen_subjects = tuple(spec for spec in recipe.subjects if not only or spec.name in only)
    for name in only:  # raw runs of an earlier recipe must not be taken for this one's
        shutil.rmtree(out / "raw" / f"subject{name}", ignore_errors=True)
    label_raw(recipe, out)
    make_runs(dataclasses.replace(recipe, subjects=chosen_subjects), out, discard_raw, workers)
    for spec in recipe.subjects:
        if spec not in chosen_subjects:
            preparation.adopt_subject(spec.name)
            continue
        chosen = preparation.finish_subject(spec.name, recipe.train, recipe.test)
        print(f"subject {spec.name}: {chosen.significant.sum()} reliable vertices, {len(chosen.vertices)} kept")
    write_json(out / "recipe.json", dataclasses.asdict(recipe))
    return preparation.publish()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="subjects to make again; the others stay")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--discard-raw", action="store_true", help="delete each raw run once it has been prepared")
    given = parser.parse_args(arguments)
    subjects = tuple(dataclasses.replace(s, seed=given.seed) for s in DEMO_SUBJECTS)
    try:
        recipe = WorldRecipe(seed=given.seed, subjects=subjects)
        target = make_world(recipe, given.out, given.discard_raw, given.workers, given.only)
    except MindvizError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"prepared dataset: {target}")


if __name__ == "__main__":
    main()
