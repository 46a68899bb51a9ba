"""Build `assets/sprites/objects.png` from the npm package `@lobehub/fluent-emoji-3d` (rendered by Microsoft, MIT).

Run once, after `npm pack @lobehub/fluent-emoji-3d && tar xzf lobehub-*.tgz`: `python -m training.demo.sprites
package/assets`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from mindviz.simulate.sprites import CELL, OBJECTS, SHEET, SHEET_COLUMNS
from mindviz.storage import atomic_file
from mindviz.types import MindvizError


def build_sheet(source: Path) -> Image.Image:
    """Paste every object of `OBJECTS`, cropped to what is drawn and centred in its cell, into one RGBA sheet."""
    sheet = Image.new("RGBA", (SHEET_COLUMNS * CELL, len(OBJECTS) // SHEET_COLUMNS * CELL))
    for i, item in enumerate(OBJECTS):
        path = source / f"{item.code}.webp"
        if not path.exists():
            raise MindvizError(
                f"{path} is missing: the picture of {item.name!r} in the Fluent 3-D set was expected there"
            )
        picture = Image.open(path).convert("RGBA")
        picture = picture.crop(picture.getchannel("A").getbbox())
        scale = CELL / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        row, column = divmod(i, SHEET_COLUMNS)
        corner = (column * CELL + (CELL - size[0]) // 2, row * CELL + (CELL - size[1]) // 2)
        sheet.paste(picture, corner)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder `assets` of the unpacked npm package")
    sheet = build_sheet(parser.parse_args().source)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(SHEET) as aside:
        sheet.save(aside, format="PNG", optimize=True)
    print(f"{SHEET}: {len(OBJECTS)} objects, {SHEET.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
