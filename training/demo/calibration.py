"""How much noise the simulated subjects carry: until a ridge decoder finds the right shot as often as it should.

The decoder goes from a window of scans to an image embedding of the clip. The embedding is efficientnet-lite0 (trained
on ImageNet, frozen, from its package): it existed before any training of this project and is used by no stage of it.

Response and noise are cleaned apart and summed: detrending is linear, so one simulation serves every noise level.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from einops import rearrange
from tqdm import tqdm

from mindviz.data import cifti, cleaning, selection
from mindviz.data.dataset import Dataset
from mindviz.data.wen2018 import expected_repeats
from mindviz.data.windows import WindowSpec
from mindviz.metrics.classifiers import efficientnet_lite0
from mindviz.simulate import forward
from mindviz.simulate.subjects import Subject, gains
from mindviz.storage import load_arrays, read_json, save_arrays
from mindviz.video import read_video

CLIP_FRAMES = 6
CALIBRATION_PENALTIES = (1e2, 1e3, 1e4, 1e5)


def shot_of_clips(shots: Sequence[Mapping[str, int]]) -> np.ndarray:
    """The shot that most frames of each 2-second clip belong to, int [clips], from each shot's `start` and `stop`."""
    shot = np.repeat(np.arange(len(shots)), [s["stop"] - s["start"] for s in shots])
    clips = shot.reshape(-1, CLIP_FRAMES)
    return np.array([np.bincount(c).argmax() for c in clips])


@torch.no_grad()
def clip_embeddings(frames: np.ndarray, size: int = 128) -> np.ndarray:
    """efficientnet-lite0 features of the middle frame of each clip: uint8 [N, H, W, 3] -> float32 [N / 6, 1280]."""
    model = _image_network()
    frames = frames[CLIP_FRAMES // 2 :: CLIP_FRAMES]
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    pixels = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    return torch.cat([model(batch) for batch in pixels.split(60)]).numpy()


def film_embeddings(out: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Embeddings of the clips of every film of a world, kept in ``OUT/films/embeddings.safetensors``."""
    path = out / "films" / "embeddings.safetensors"
    if not path.is_file():
        stimuli = out / "raw" / "stimuli"
        save_arrays(path, {n: clip_embeddings(read_video(stimuli / f"{n}.mp4").frames) for n in tqdm(names, "clips")})
    return load_arrays(path)


def _image_network() -> Callable[[torch.Tensor], torch.Tensor]:
    """efficientnet-lite0 without its classifier."""
    model = efficientnet_lite0()
    model.classifier = torch.nn.Identity()
    return model


@dataclass(frozen=True)
class ResponseParts:
    """Cleaned response, spontaneous activity and noise of the repeats of one run, at the candidates.

    `response` is [V, time], `spontaneous` and `noise` [repeats, V, time], both for a strength of 1.
    """

    response: np.ndarray
    spontaneous: np.ndarray
    noise: np.ndarray

    def repeats(self, sigma: float, spontaneous: float) -> list[np.ndarray]:
        """The z-scored repeats at one strength of noise and of spontaneous activity (`SubjectSpec`)."""
        pairs = zip(self.spontaneous, self.noise, strict=True)
        scale = np.float32(np.sqrt(spontaneous))
        return [cleaning.zscore(self.response + scale * own + np.float32(sigma) * rest) for own, rest in pairs]


def candidates(subject: Subject, least: float = 0.7) -> np.ndarray:
    """Vertices whose gain lets them be selected at all at the noise levels in question; the others only cost time."""
    return np.flatnonzero(gains(subject.spec.rng("gain"), subject.driver) > least)


def simulate_parts(subject: Subject, run: str, features: Mapping[str, np.ndarray], repeats: int) -> ResponseParts:
    """One run of a subject at its candidates, in parts; with the very random numbers of `raw.simulate_run`."""
    here, kept = candidates(subject), cleaning.kept_volumes(245)
    subject = dataclasses.replace(subject, spec=dataclasses.replace(subject.spec, spontaneous=1.0))
    response = forward.responses(subject, features, 245)
    spontaneous, noise = [], []
    for repeat in range(1, repeats + 1):
        rng = subject.spec.rng("noise", run, str(repeat))
        noise.append(cleaning.detrend(forward.noise(rng, 245)[here][:, kept]))
        spontaneous.append(cleaning.detrend(forward.spontaneous(rng, subject, response)[here][:, kept]))
    return ResponseParts(cleaning.detrend(response[here][:, kept]), np.stack(spontaneous), np.stack(noise))


def _fit_ridge(kernel: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    regularised = kernel + np.float32(penalty) * np.eye(len(kernel), dtype=np.float32)
    return scipy.linalg.solve(regularised, targets, assume_a="pos", overwrite_a=True)


def ridge_predictions(
    train: np.ndarray, targets: np.ndarray, tests: Sequence[np.ndarray], held: int
) -> list[np.ndarray]:
    """Ridge from windows to embeddings; the penalty is the best for the last `held` training windows.

    Columns are standardised with the training set. Returns one [N, D] for each array of test windows [N, features].
    """
    mean, std = train.mean(0), train.std(0) + 1e-6
    train = (train - mean) / std
    kernel = train @ train.T
    fit, check = slice(0, len(train) - held), slice(len(train) - held, len(train))
    errors = []
    for penalty in CALIBRATION_PENALTIES:
        dual = _fit_ridge(kernel[fit, fit], targets[fit], penalty)
        errors.append(float(((kernel[check, fit] @ dual - targets[check]) ** 2).mean()))
    weights = train.T @ _fit_ridge(kernel, targets, CALIBRATION_PENALTIES[int(np.argmin(errors))])
    return [((test - mean) / std) @ weights for test in tests]


def principal_components(embeddings: Sequence[np.ndarray], size: int = 128) -> list[np.ndarray]:
    """Centred embeddings on the leading components of all but the last, which is the test film's."""
    train = np.concatenate(embeddings[:-1])
    _, vectors = np.linalg.eigh(train.T @ train)
    return [e @ vectors[:, -size:] for e in embeddings]


def right_shot(predicted: np.ndarray, truth: np.ndarray, shots: np.ndarray) -> float:
    """Share of windows whose nearest clip (by cosine) belongs to the right shot."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    return float((shots[(unit(predicted) @ unit(truth).T).argmax(1)] == shots).mean())


@dataclass(frozen=True)
class NoiseScore:
    """What the ridge decoder reaches at one noise level."""

    sigma: float
    spontaneous: float
    vertices: int
    significant: int
    averaged: float
    single: float
    chance: float
    reliability: float
    by_driver: tuple[int, ...]


def score(
    train: Sequence[ResponseParts],
    test: ResponseParts,
    embeddings: Sequence[np.ndarray],
    shots: np.ndarray,
    sigma: float,
    spontaneous: float,
    drivers: np.ndarray,
) -> NoiseScore:
    """Select vertices, fit and score at one noise level.

    `embeddings` are those of the training films and, last, of the test film; `drivers` the driver of each driven
    vertex.
    """
    fisher, averages = [], []
    for parts in train:
        first, second = parts.repeats(sigma, spontaneous)
        # Vertices that are no candidates count for Bonferroni all the same.
        others = cifti.NUM_CORTEX - len(first)
        fisher.append(np.pad(selection.fisher_z(first, second), (0, others)))
        averages.append((first + second) / 2)
    chosen = selection.select_reliable(np.stack(fisher))
    columns = chosen.vertices
    spec = WindowSpec()

    def windows(bold: np.ndarray) -> np.ndarray:
        return spec.cut(np.ascontiguousarray(bold[columns].T)).reshape(bold.shape[1], -1)

    repeats = test.repeats(sigma, spontaneous)
    tests = [windows(np.mean(repeats, axis=0)), *(windows(r) for r in repeats[:3])]
    mean = np.concatenate(embeddings[:-1]).mean(0)
    embeddings = principal_components([e - mean for e in embeddings])
    predicted = ridge_predictions(
        np.concatenate([windows(a) for a in averages]), np.concatenate(embeddings[:-1]), tests, held=240 * 2
    )
    accuracy = [right_shot(p, embeddings[-1], shots) for p in predicted]
    counts = np.bincount(shots)
    return NoiseScore(
        sigma,
        spontaneous,
        len(columns),
        int(chosen.significant.sum()),
        accuracy[0],
        float(np.mean(accuracy[1:])),
        float((counts / counts.sum()) @ counts / counts.sum()),
        float(np.tanh(np.mean(fisher, axis=0)[columns].mean())),
        tuple(np.bincount(drivers[columns], minlength=9).tolist()),
    )


def measure_prepared(dataset: Dataset, subject: str, embeddings: Mapping[str, np.ndarray]) -> float:
    """The decoder's share of right shots on a prepared dataset: what was aimed at, measured on what was written."""
    train, test = dataset.runs(subject, "train"), dataset.runs(subject, "test")[0]
    mean = np.concatenate([embeddings[run] for run in train]).mean(0)
    targets = principal_components([embeddings[run] - mean for run in (*train, test)])

    def windows(run: str) -> np.ndarray:
        return rearrange(dataset.windows(subject, run), "n t v -> n (t v)")

    bold = np.concatenate([windows(run) for run in train])
    predicted = ridge_predictions(bold, np.concatenate(targets[:-1]), [windows(test)], held=480)
    return right_shot(predicted[0], targets[-1], shot_of_clips(dataset.shots(test)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score the ridge decoder of one simulated subject.")
    parser.add_argument("--subject", default="1")
    parser.add_argument("--sigma", type=float, nargs="*", default=[], help="noise levels to try, simulated in memory")
    parser.add_argument("--spontaneous", type=float, nargs="+", default=[1.6], help="strengths to try with each")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    return parser.parse_args()


def main() -> None:
    """Score noise levels in memory, and the prepared dataset if it is there."""
    from training.demo.world import DEMO_SUBJECTS, WorldRecipe, make_films

    given, recipe = _arguments(), WorldRecipe()
    drawn = make_films(recipe, given.out)
    embeddings = film_embeddings(given.out, recipe.films)
    if (given.out / "data").is_dir():
        right = measure_prepared(Dataset.open(given.out / "data"), given.subject, embeddings)
        print(f"prepared dataset, subject {given.subject}: right shot {right:.3f}")
    spec = next(s for s in DEMO_SUBJECTS if s.name == given.subject)
    if not given.sigma:
        return
    subject = drawn.subject(spec)
    parts = [simulate_parts(subject, n, drawn.features[n], expected_repeats(n)) for n in tqdm(recipe.films, "runs")]
    shots = shot_of_clips(read_json(given.out / "raw" / "stimuli" / f"{recipe.test[0]}.json")["shots"])
    driven = subject.driver[candidates(subject)]
    clips = [embeddings[n] for n in recipe.films]
    for sigma, spontaneous in product(given.sigma, given.spontaneous):
        result = score(parts[:-1], parts[-1], clips, shots, sigma, spontaneous, driven)
        print(dataclasses.asdict(result), flush=True)


if __name__ == "__main__":
    main()
