"""The contents of ``dataset.json``, and the planted truth of a simulated subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindviz.brain import meshes
from mindviz.data.windows import WindowSpec
from mindviz.storage import read_json
from mindviz.types import MindvizError

DATASET_FORMAT = 1


SPLITS = ("train", "test")


@dataclass(frozen=True)
class Truth:
    """What actually drives each cortical vertex of a simulated subject.

    `driver` uint8 [cortex] indexes `names` (0: nothing); `noise_ceiling` float32 [cortex] is the expected correlation
    of the repeat-averaged test run with the noiseless response.
    """

    driver: np.ndarray
    noise_ceiling: np.ndarray
    names: tuple[str, ...]

    @property
    def answers(self) -> np.ndarray:
        """Which vertices respond to what is seen, bool [cortex]: neither undriven vertices nor decoys."""
        seen = np.array([name != "nothing" and "decoy" not in name for name in self.names])
        return seen[self.driver]


@dataclass(frozen=True)
class DatasetInfo:
    """The content of ``dataset.json``."""

    name: str
    simulated: bool
    mesh: str
    tr: float
    fps: float
    window: WindowSpec
    subjects: Mapping[str, Mapping[str, tuple[str, ...]]]
    stimuli: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> DatasetInfo:
        """Read and check the file; `MindvizError` names the offending key."""
        content = read_json(path)
        if content.get("format") != DATASET_FORMAT:
            raise MindvizError(f"{path}: expected format {DATASET_FORMAT}, found {content.get('format')!r}")
        kinds: dict[str, Any] = {"name": str, "simulated": bool, "mesh": str, "tr": (int, float), "fps": (int, float)}
        for key, kind in {**kinds, "window": dict, "subjects": dict, "stimuli": dict}.items():
            if not isinstance(content.get(key), kind):
                raise MindvizError(f"{path}: expected a different type for {key!r}, found {content.get(key)!r}")
        if content["mesh"] not in meshes.MESHES:
            raise MindvizError(f"{path}: expected a mesh of {', '.join(meshes.MESHES)}, found {content['mesh']!r}")
        window = content["window"]
        if set(window) != {"size", "lag"} or not all(isinstance(v, int) for v in window.values()):
            raise MindvizError(f"{path}: expected a window with whole numbers size and lag, found {window!r}")
        if not (content["tr"] > 0 and content["fps"] > 0):
            raise MindvizError(f"{path}: expected a positive tr and fps, found {content['tr']} and {content['fps']}")
        frames = content["tr"] * content["fps"]
        if round(frames) < 1 or abs(frames - round(frames)) > 1e-3:
            raise MindvizError(
                f"{path}: expected a whole number of frames in a scan, found {frames:g} (tr {content['tr']:g} s x fps "
                f"{content['fps']:g})"
            )
        subjects = {name: _splits(path, name, runs) for name, runs in content["subjects"].items()}
        values = {key: content[key] for key in kinds}
        return cls(**values, window=WindowSpec(**window), subjects=subjects, stimuli=content["stimuli"])


def _splits(path: Path, subject: str, runs: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(runs, dict) or not all(isinstance(runs.get(split), list) for split in SPLITS):
        raise MindvizError(f"{path}: expected lists of train and test runs for subject {subject}, found {runs!r}")
    return {split: tuple(map(str, runs[split])) for split in SPLITS}
