"""Ridge regression from scans to the tokens of captions: what a linear decoder reaches with the same generator.

Each principal component of the tokens has its own penalty, chosen by himalaya (Dupré la Tour et al. 2022) on blocks of
neighbouring clips, so that no shot is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import scipy.linalg
from einops import rearrange
from sklearn.model_selection import PredefinedSplit

from mindviz.evaluate.catalogue import ReportMethod
from mindviz.evaluate.methods import NO_CLIP, NO_TRAINING, training_clips
from mindviz.evaluate.setup import Setup
from mindviz.evaluate.tokens import training_caption_tokens
from mindviz.storage import load_arrays, save_arrays
from mindviz.types import MindvizError
from training.data.scans import TrainingScans, load_scans
from training.demo.publish import test_windows

RIDGE = ReportMethod(
    "ridge",
    "ridge, same generator",
    "baseline",
    False,
    "ridge regression from the scans to caption tokens, a penalty for each component (himalaya), same generator",
)
RIDGE_PENALTIES = tuple(10.0**exponent for exponent in np.arange(2, 6.1, 0.5))
"""Candidates, for windows whose voxels have a standard deviation of 1."""
RIDGE_COMPONENTS = 128
RIDGE_FOLDS = 6


@dataclass(frozen=True)
class TokenRidge:
    """A fitted ridge regression and what it says.

    Attributes
    ----------
    predicted : float32 (M, S, D), the tokens of the test windows
    unseen : float32 (N, S, D), those of the training windows, each by a fit without its block
    clips : int (N,): each training window's place among the training clips
    penalties : (R,), that of each component
    """

    predicted: np.ndarray
    unseen: np.ndarray
    clips: np.ndarray
    penalties: np.ndarray


def components(targets: np.ndarray, size: int = RIDGE_COMPONENTS) -> tuple[np.ndarray, np.ndarray]:
    """The mean (K,) and the leading principal directions (R, K), R at most `size`, of targets (N, K)."""
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    real = int((values > 1e-9 * values[-1]).sum())  # directions in which the targets vary at all
    return mean, vectors[:, ::-1][:, : min(size, real)].T.astype(np.float32)


def fit_token_ridge(
    windows: np.ndarray, targets: np.ndarray, tests: np.ndarray, folds: int = RIDGE_FOLDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernel ridge regression with a penalty for each target, chosen on blocks of neighbouring samples.

    Parameters
    ----------
    windows, tests : ndarray, shapes (N, P) and (M, P), normalised: the mean of `windows` is 0.
    targets : ndarray, shape (N, R), centred.

    Returns
    -------
    predicted (M, R), unseen (N, R): each training sample by a fit without its block; penalties (R,).
    """
    from himalaya.kernel_ridge import KernelRidgeCV

    kernel = windows @ windows.T
    block = np.arange(len(windows)) * folds // len(windows)
    fitted = KernelRidgeCV(
        alphas=np.array(RIDGE_PENALTIES, dtype=windows.dtype),
        kernel="precomputed",
        cv=PredefinedSplit(block),
        solver_params={"local_alpha": True},
    ).fit(kernel, targets)
    unseen = np.empty_like(targets)
    for k in range(folds):
        out, rest = block == k, block != k
        dual = _dual(kernel[np.ix_(rest, rest)], targets[rest], fitted.best_alphas_)
        unseen[out] = kernel[np.ix_(out, rest)] @ dual
    return fitted.predict(tests @ windows.T), unseen, fitted.best_alphas_


def _dual(kernel: np.ndarray, targets: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """The samples' weights (N, R), with a penalty (R,) for each target: a Cholesky factor for each different one."""
    weights = np.empty_like(targets)
    for penalty in np.unique(penalties):
        columns = penalties == penalty
        regularised = kernel + penalty * np.eye(len(kernel), dtype=kernel.dtype)
        weights[:, columns] = scipy.linalg.solve(regularised, targets[:, columns], assume_a="pos", overwrite_a=True)
    return weights


def token_ridge(setup: Setup) -> TokenRidge | str:
    """The ridge decoder of a subject, fitted to the training films; or the reason why there is none.

    The fit takes a minute; ``OUT/ridge-….fit.safetensors`` keeps it for the next call.
    """
    if setup.training is None:
        return NO_TRAINING
    every = training_clips(setup.training, setup.subject)
    named = training_caption_tokens(setup, every)
    if named is None:
        return NO_CLIP
    scans = load_scans(setup.training, setup.subject)
    clips = clips_of_windows(setup, every, scans)
    x, tests = (rearrange(w, "n t v -> n (t v)") for w in (scans.windows.numpy(), _tests(setup, scans)))
    targets = rearrange(named[clips], "n s d -> n (s d)").astype(np.float32)
    key = sha256(f"{scans.fingerprint} {RIDGE_PENALTIES} {RIDGE_COMPONENTS} {RIDGE_FOLDS}".encode())
    for array in (tests, targets):
        key.update(np.ascontiguousarray(array).data)
    path = setup.options.out / f"ridge-{key.hexdigest()[:16]}.fit.safetensors"
    if not path.exists():
        _fit_and_keep(path, x, targets, tests)
    kept = load_arrays(path)
    whole = {n: kept[n] @ kept["directions"] + kept["mean"] for n in ("predicted", "unseen")}
    shaped = {n: w.reshape(-1, *named.shape[1:]).astype(np.float32) for n, w in whole.items()}
    return TokenRidge(**shaped, clips=clips, penalties=kept["penalties"])


def _fit_and_keep(path: Path, x: np.ndarray, targets: np.ndarray, tests: np.ndarray) -> None:
    mean, directions = components(targets)
    predicted, unseen, penalties = fit_token_ridge(x, (targets - mean) @ directions.T, tests)
    arrays = {"predicted": predicted, "unseen": unseen, "penalties": penalties}
    save_arrays(path, arrays | {"mean": mean, "directions": directions})


def clips_of_windows(setup: Setup, every: tuple[tuple[str, int], ...], scans: TrainingScans) -> np.ndarray:
    """Each training window's place in `every` (runs and indices of all training clips)."""
    assert setup.training is not None
    first, offset, place = {}, 0, 0
    for run in setup.training.runs(setup.subject, "train"):
        frames = len(setup.training.film(run).frames)
        for index in range(frames // scans.clip_frames):
            first[offset + index * scans.clip_frames] = place
            place += 1
        offset += frames
    if place != len(every):
        raise MindvizError(f"{setup.training.folder}: expected {place} training clips, found {len(every)}")
    return np.array([first[int(frame)] for frame in scans.first_frame])


def _tests(setup: Setup, scans: TrainingScans) -> np.ndarray:
    """The test windows (N, T, V) of the run that is evaluated, normalised as everywhere."""
    runs = setup.dataset.runs(setup.subject, "test")
    sizes = [len(setup.dataset.run(setup.subject, run).bold) for run in runs]
    if setup.run not in runs:
        raise MindvizError(f"expected a test run of {', '.join(runs)}, found {setup.run}")
    start = sum(sizes[: runs.index(setup.run)])
    return test_windows(setup.dataset, scans)[start : start + setup.count].numpy()
