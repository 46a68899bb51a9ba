"""The methods of a report: clips for the same test windows, from the scans, without scans, and from the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from mindviz.data import Dataset
from mindviz.evaluate.catalogue import ReportMethod
from mindviz.evaluate.setup import Setup, check_report_target
from mindviz.evaluate.tokens import as_words, training_caption_tokens, true_caption_tokens
from mindviz.metrics import grey_clip, mean_clip, shuffled_by_shot
from mindviz.metrics.rows import DECODED, centred_similarity
from mindviz.storage import load_arrays, read_json, save_arrays, write_json
from mindviz.types import MindvizError, Window

REPORT_SEED = 0
NO_TRAINING = "needs the training films (--training-data)"
_OF_TRAINING = ("mean", "random", "nearest")
NO_CLIP = "needs captions of the clips and a CLIP in the checkpoint"


@dataclass(frozen=True)
class MethodClips:
    """The clips of all methods that could be made.

    Attributes
    ----------
    clips : by the method's name, uint8 (N, F, H, W, 3); ``decoded`` first
    tokens : the condition tokens of the test windows, float32 (N, S, D)
    missing : by the method's name, the reason why it was left out
    """

    clips: dict[str, np.ndarray]
    tokens: np.ndarray
    missing: dict[str, str]


def make_clips(
    setup: Setup, methods: Sequence[ReportMethod], predicted: Mapping[str, Callable[[], np.ndarray | str]] | None = None
) -> MethodClips:
    """Make the clips of `methods`; after an interruption, the same call resumes where it stopped.

    `predicted` gives, by slug, the tokens (N, S, D) of methods that are not in `METHODS`, or why there are none.

    Raises
    ------
    MindvizError
        Before anything is decoded, if a method requested by name lacks the training films, or `out` contains unrelated
        files.
    """
    check_report_target(setup.options.out)
    asked = [m.slug for m in methods if m.slug in setup.options.methods and m.slug in _OF_TRAINING]
    if asked and setup.training is None:
        raise MindvizError(f"--methods {' '.join(asked)}: {NO_TRAINING}, found none")
    decoded, tokens = decode_windows(setup)
    made = MethodClips({DECODED: decoded}, tokens, {})
    for method in methods:
        if method.slug == "decoded":
            continue
        given = (predicted or {}).get(method.slug)
        clips = _from_tokens(setup, method.slug, given) if given else _MAKERS[method.slug](setup, made)
        if isinstance(clips, str):
            made.missing[method.name] = clips
        else:
            made.clips[method.name] = clips
    return made


# ---------------------------------------------------------------------- generated clips, resumable
def _kept(
    setup: Setup,
    slug: str,
    made_of: Mapping[str, Any],
    make: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Clips (N, F, H, W, 3) and tokens (N, S, D) of all windows, resuming from ``OUT/SLUG.safetensors``."""
    count, path = setup.count, setup.options.out / f"{slug}.safetensors"
    _claim(setup, slug, made_of)
    clips, tokens = _cached(path)
    begun = min(len(clips), count)
    for index in tqdm(range(begun, count), desc=f"{slug}, {setup.run}", initial=begun, total=count, mininterval=5):
        clip, condition = make(index)
        clips.append(clip)
        tokens.append(condition)
        if len(clips) % setup.options.save_every == 0 or len(clips) == count:
            save_arrays(path, {"clips": np.stack(clips), "tokens": np.stack(tokens)})
    return np.stack(clips[:count]), np.stack(tokens[:count])


def _cached(path: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not path.exists():
        return [], []
    arrays = load_arrays(path)
    return list(arrays["clips"]), list(arrays["tokens"])


def _claim(setup: Setup, slug: str, made_of: Mapping[str, Any]) -> None:
    """Record the settings in the folder, or refuse a folder with clips decoded with other settings."""
    mine: dict[str, Any] = {
        "run": setup.run,
        "settings": asdict(setup.settings),
        "dataset": setup.dataset.fingerprint,
        "checkpoint": setup.checkpoint_hash,
        "subject": setup.subject,
    }
    mine = json.loads(json.dumps(mine | dict(made_of)))
    path = setup.options.out / f"{slug}.json"
    if not path.exists():
        write_json(path, mine)
        return
    theirs = read_json(path)
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            raise MindvizError(
                f"{path}: expected clips decoded with {name} {mine.get(name)}, found {theirs.get(name)}; "
                "choose another --out, or remove that folder"
            )


def decode_windows(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Decode the test windows.

    Returns
    -------
    clips : uint8 (N, F, H, W, 3)
    tokens : float32 (N, S, D)
    """
    return _kept(setup, "decoded", {}, lambda i: _decoded(setup, setup.dataset.window(setup.subject, setup.run, i)))


def _decoded(setup: Setup, window: Window) -> tuple[np.ndarray, np.ndarray]:
    settings = replace(setup.settings, seed=setup.settings.seed + window.index)
    decoded = setup.decoder.decode(window, settings, setup.negative, attention=False)
    return decoded.clip.frames, decoded.encoding.tokens


def _from_tokens(setup: Setup, slug: str, find: Callable[[], np.ndarray | str]) -> np.ndarray | str:
    """Clips generated from tokens (N, S, D), guided away from `negative_tokens`."""
    tokens = find()
    if isinstance(tokens, str):
        return tokens
    tokens = np.ascontiguousarray(tokens, dtype=np.float32)
    negative = negative_tokens(setup)
    if isinstance(negative, str):
        return negative
    if as_words(negative[None], tokens) is None:
        return f"its tokens {tokens.shape[1:]} are not of the generator's shape {negative.shape}"

    def make(index: int) -> tuple[np.ndarray, np.ndarray]:
        settings = replace(setup.settings, seed=setup.settings.seed + index)
        return setup.decoder.decode_tokens(tokens[index], negative, settings).frames, tokens[index]

    return _kept(setup, slug, {"tokens": sha256(tokens[: setup.count].tobytes()).hexdigest()}, make)[0]


def negative_tokens(setup: Setup) -> np.ndarray | str:
    """The negative tokens (S, D) that guidance leads away from, for tokens of any origin: usually those of the mean
    training scan, the generator's own negative."""
    data = setup.decoder.data(setup.subject)
    if data is None:
        return "the checkpoint holds no mean training scan to guide away from"
    window = setup.dataset.window(setup.subject, setup.run, 0)
    return setup.decoder.negative_tokens(window, setup.settings, setup.negative)


# ---------------------------------------------------------------------- without the generator
def mean_training_video(dataset: Dataset, subject: str) -> np.ndarray:
    """The mean clip (F, H, W, 3) uint8 of a subject's training films."""
    length, means = dataset.clip_frames, []
    for run in dataset.runs(subject, "train"):
        film = dataset.film(run).frames
        means.append(mean_clip(rearrange(film[: len(film) // length * length], "(n f) h w c -> n f h w c", f=length)))
    # The mean of the rounded means of films of equal length: within half a grey level of the overall mean.
    return mean_clip(np.stack(means))


def training_clips(dataset: Dataset, subject: str) -> tuple[tuple[str, int], ...]:
    """The run and the index of every clip of a subject's training films."""
    sizes = {run: len(dataset.film(run).frames) // dataset.clip_frames for run in dataset.runs(subject, "train")}
    return tuple((run, index) for run, size in sizes.items() for index in range(size))


def _mean(setup: Setup, _: MethodClips) -> np.ndarray | str:
    if setup.training is None:
        return NO_TRAINING
    return np.broadcast_to(mean_training_video(setup.training, setup.subject), setup.test_set.clips.shape)


def _grey(setup: Setup, _: MethodClips) -> np.ndarray:
    return np.broadcast_to(grey_clip(*setup.test_set.clips.shape[1:4]), setup.test_set.clips.shape)


def _random(setup: Setup, _: MethodClips) -> np.ndarray | str:
    if setup.training is None:
        return NO_TRAINING
    every = training_clips(setup.training, setup.subject)
    drawn = np.random.default_rng(REPORT_SEED).integers(len(every), size=setup.count)
    return np.stack([setup.training.clip(*every[i]).frames for i in drawn])


def _nearest(setup: Setup, made: MethodClips) -> np.ndarray | str:
    if setup.training is None:
        return NO_TRAINING
    every = training_clips(setup.training, setup.subject)
    named = training_caption_tokens(setup, every)
    words = None if named is None else as_words(made.tokens, named)
    if named is None or words is None:
        return NO_CLIP
    flat = [rearrange(t, "n s d -> n (s d)") for t in (words, named)]
    best = centred_similarity(*flat).argmax(axis=1)
    return np.stack([setup.training.clip(*every[i]).frames for i in best])


def _shuffled(setup: Setup, made: MethodClips) -> np.ndarray:
    return made.clips[DECODED][shuffled_by_shot(setup.test_set.shots, np.random.default_rng(REPORT_SEED))]


@torch.inference_mode()
def _vae(setup: Setup, _: MethodClips) -> np.ndarray:
    codec, device, clips = setup.decoder.codec, setup.decoder.device, setup.test_set.clips
    pixels = rearrange(torch.from_numpy(clips), "n f h w c -> n c f h w")
    rebuilt = torch.cat([codec.decode(codec.encode(part.to(device))).cpu() for part in pixels.split(16)])
    return rearrange((rebuilt * 255).round().to(torch.uint8), "n c f h w -> n f h w c").numpy()


# ---------------------------------------------------------------------- through the generator
def _untrained(setup: Setup, _: MethodClips) -> np.ndarray | str:
    windows = [setup.dataset.window(setup.subject, setup.run, i) for i in range(setup.count)]
    return _from_tokens(
        setup,
        "untrained",
        lambda: np.stack([setup.decoder.encode(w, attention=False, stage="untrained").tokens for w in windows]),
    )


def _noise(setup: Setup, _: MethodClips) -> np.ndarray | str:
    config, rng = setup.decoder.encoder_config(setup.subject), np.random.default_rng(REPORT_SEED)
    shape = (setup.count, config.window_size, config.num_voxels)
    windows = rng.standard_normal(shape, dtype=np.float32)  # with the standard deviation of normalised scans
    return _from_tokens(
        setup, "noise", lambda: np.stack([setup.decoder._tokens(setup.subject, window) for window in windows])
    )


def _caption(setup: Setup, _: MethodClips) -> np.ndarray | str:
    tokens = true_caption_tokens(setup)
    return NO_CLIP if tokens is None else _from_tokens(setup, "caption", lambda: tokens)


def _single(setup: Setup, _: MethodClips) -> np.ndarray | str:
    repeats = setup.dataset.repeats(setup.subject, setup.run)
    if not repeats:
        return "the dataset holds no single repeats of the run"
    scans, spec = setup.dataset.run(setup.subject, setup.run, repeats[0]), setup.dataset.window_spec
    bold = spec.cut(scans.bold)

    def make(i: int) -> tuple[np.ndarray, np.ndarray]:
        clamped = spec.clamped(i, len(bold))
        return _decoded(setup, Window(bold[i], setup.subject, setup.run, i, clamped, scans.run_std))

    return _kept(setup, "single", {"repeat": repeats[0]}, make)[0]


_MAKERS: dict[str, Callable[[Setup, MethodClips], np.ndarray | str]] = {
    "grey": _grey,
    "mean": _mean,
    "random": _random,
    "nearest": _nearest,
    "shuffled": _shuffled,
    "untrained": _untrained,
    "noise": _noise,
    "vae": _vae,
    "caption": _caption,
    "single": _single,
}
