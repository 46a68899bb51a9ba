"""The objects of the demo world: 48 rendered figures from Microsoft's Fluent 3-D set (MIT), eight categories of six.

The sheet `assets/sprites/objects.png` holds them in the order of `OBJECTS`, eight per row;
`training/demo/sprites.py` builds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from mindviz.types import MindvizError

SHEET = Path(__file__).parents[2] / "assets" / "sprites" / "objects.png"
CELL = 80  # pixels; the largest object drawn on a 64-pixel frame is 61 pixels high
SHEET_COLUMNS = 8


@dataclass(frozen=True)
class SpriteObject:
    """One object: its name in captions, its category, and the Unicode code points in its file name in the set."""

    name: str
    category: str
    code: str

    @property
    def phrase(self) -> str:
        """The name with its article, as used in captions."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


_TABLE = {
    "person": {
        "guard": "1f482",
        "construction worker": "1f477",
        "astronaut": "1f9d1-200d-1f680",
        "dancer": "1f483",
        "old man": "1f474",
        "santa": "1f385",
    },
    "land animal": {
        "elephant": "1f418",
        "giraffe": "1f992",
        "horse": "1f40e",
        "fox": "1f98a",
        "panda": "1f43c",
        "pig": "1f437",
    },
    "sea animal": {
        "dolphin": "1f42c",
        "whale": "1f433",
        "tropical fish": "1f420",
        "octopus": "1f419",
        "crab": "1f980",
        "turtle": "1f422",
    },
    "bird or insect": {
        "owl": "1f989",
        "flamingo": "1f9a9",
        "penguin": "1f427",
        "butterfly": "1f98b",
        "bee": "1f41d",
        "ladybug": "1f41e",
    },
    "vehicle": {
        "car": "1f697",
        "bus": "1f68c",
        "helicopter": "1f681",
        "tractor": "1f69c",
        "sailboat": "26f5",
        "rocket": "1f680",
    },
    "food": {
        "apple": "1f34e",
        "burger": "1f354",
        "banana": "1f34c",
        "watermelon": "1f349",
        "bunch of grapes": "1f347",
        "doughnut": "1f369",
    },
    "plant": {
        "sunflower": "1f33b",
        "cactus": "1f335",
        "tree": "1f333",
        "tulip": "1f337",
        "mushroom": "1f344",
        "palm": "1f334",
    },
    "thing": {
        "balloon": "1f388",
        "football": "26bd",
        "guitar": "1f3b8",
        "umbrella": "2602-fe0f",
        "light bulb": "1f4a1",
        "gift": "1f381",
    },
}

OBJECTS: tuple[SpriteObject, ...] = tuple(
    SpriteObject(name, category, code) for category, members in _TABLE.items() for name, code in members.items()
)
CATEGORIES: tuple[str, ...] = tuple(_TABLE)
_ROW_OF_NAME = {o.name: i for i, o in enumerate(OBJECTS)}


def object_named(name: str) -> SpriteObject:
    """The object of that name; raises `MindvizError` if there is none."""
    if name not in _ROW_OF_NAME:
        raise MindvizError(f"the demo world has no object {name!r}; it has {', '.join(_ROW_OF_NAME)}")
    return OBJECTS[_ROW_OF_NAME[name]]


@lru_cache(maxsize=1)
def _sheet() -> np.ndarray:
    """The sheet as premultiplied RGBA in 0..1, so that resampling never mixes in the colour of transparent pixels."""
    if not SHEET.exists():
        raise MindvizError(
            f"{SHEET}: expected the sprite sheet, found nothing; `python -m training.demo.sprites` builds it"
        )
    rgba = np.asarray(Image.open(SHEET).convert("RGBA"), dtype=np.float32) / 255.0
    expected = (len(OBJECTS) // SHEET_COLUMNS * CELL, SHEET_COLUMNS * CELL)
    if rgba.shape[:2] != expected:
        raise MindvizError(f"{SHEET}: expected a sprite sheet of {expected} pixels, found {rgba.shape[:2]}")
    rgba[..., :3] *= rgba[..., 3:]
    return rgba


def sprite(name: str) -> np.ndarray:
    """Premultiplied RGBA of one object, shape (CELL, CELL, 4), float32 in 0..1."""
    row, column = divmod(_ROW_OF_NAME[object_named(name).name], SHEET_COLUMNS)
    return _sheet()[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
