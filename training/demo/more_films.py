"""Films that no subject saw, for the generator: the demo's stand-in for the pictures that the paper's was trained on.

Stable Diffusion comes to the paper with hundreds of millions of captioned pictures; 18 films hold some 1,700 shots, too
few to tell the film from what is said of it. Here are as many more as wanted, drawn with names and a seed of their own.
They show no (object, setting) pair that is kept for the test, and no frame of a test film.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mindviz.diffusion import LatentCodec
from mindviz.diffusion.clip import ClipModel
from mindviz.simulate.films import PAIRS_HELD_OUT, make_film
from mindviz.storage import load_tensors, read_json, save_tensors, write_json
from mindviz.types import MindvizError
from training.data.checks import check_no_shared_frames
from training.data.latents import LatentCorpus, caption_tokens, encode_frames

FIRST_SEED = 900_000  # the films of the demo dataset have seed 0, those of the judge begin at 730,000


def with_more_films(
    corpus: LatentCorpus,
    count: int,
    codec: LatentCodec,
    clip: ClipModel,
    test_frames: Mapping[str, np.ndarray],
    cache: Path,
    seconds: float = 480,
) -> LatentCorpus:
    """A corpus and `count` films more; each is drawn and encoded once and kept in the folder `cache`, as float16.

    Parameters
    ----------
    codec, clip : those that made `corpus`.
    test_frames : frames (N, H, W, 3) of the test films by name; none of the new films may hold one.
    seconds : length of a film.

    Raises
    ------
    MindvizError
        If a film shows a test frame, or a pair of object and setting that is kept for the test.
    """
    if not count:
        return corpus
    key = _key(codec, corpus.scale, test_frames)
    latents, starts = [corpus.latents.half()], []
    captions: list[str] = []
    first = len(corpus.latents)
    for number in tqdm(range(count), "more films"):
        name = f"film{number}-{key}-{seconds:g}"
        path, notes = cache / f"{name}.safetensors", cache / f"{name}.json"
        if not path.exists():
            film = make_film(f"film{number}", FIRST_SEED + number, seconds)
            _check(film.name, film.frames, {(s.object, s.setting) for s in film.shots}, test_frames)
            write_json(notes, {"captions": list(film.captions)})
            save_tensors(path, {"latents": (encode_frames(codec, film.frames) * corpus.scale).half()})
        latents.append(load_tensors(path)["latents"].half())
        said = np.array(read_json(notes)["captions"])
        whole = np.flatnonzero(said[: 1 - corpus.clip_frames] == said[corpus.clip_frames - 1 :])
        starts.append(torch.from_numpy(whole) + first)  # the same caption at both ends means one shot
        captions.extend(said.tolist())
        first += len(said)
    words = tuple(sorted(set(captions)))
    place = {caption: i + len(corpus.tokens) for i, caption in enumerate(words)}
    with torch.inference_mode():
        tokens = caption_tokens(clip, words)
    return LatentCorpus(
        latents=torch.cat(latents),
        caption_index=torch.cat([corpus.caption_index, torch.tensor([place[c] for c in captions])]),
        tokens=torch.cat([corpus.tokens, tokens.clone()]),
        empty_tokens=corpus.empty_tokens,
        clip_starts=torch.cat([corpus.clip_starts, *starts]),
        scale=corpus.scale,
        clip_frames=corpus.clip_frames,
    )


def _check(name: str, frames: np.ndarray, pairs: set[tuple[str, str]], test_frames: Mapping[str, np.ndarray]) -> None:
    kept = sorted(pairs & PAIRS_HELD_OUT)
    if kept:
        raise MindvizError(f"film {name}: expected no pair that is kept for the test, found {kept[0]}")
    check_no_shared_frames({name: frames}, test_frames)


def _key(codec: LatentCodec, scale: float, test_frames: Mapping[str, np.ndarray]) -> str:
    """Of all that the latents hang on, and of what they were checked against."""
    digest = sha256(repr((FIRST_SEED, scale, sorted(PAIRS_HELD_OUT))).encode())
    for name in sorted(test_frames):
        digest.update(np.ascontiguousarray(test_frames[name]).data)
    for part, tensor in codec.vae.state_dict().items():
        if part.startswith(("encoder.", "quant_conv.")):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
