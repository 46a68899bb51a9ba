"""Maps and parcellations that a person opens in the app. They belong to one session; knows nothing of gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from mindviz import brain
from mindviz.brain.files.own_maps import MAP_ENDINGS, PARCELLATION_ENDINGS
from mindviz.brain.parcellations import Parcellation
from mindviz.session.map_choice import MapChoice, choose
from mindviz.types import MindvizError, SurfaceMap

MAX_BYTES = 32 * 2**20
"""Of one file. A map of fsLR-32k in text has a megabyte."""
MOST = 8
"""Maps, and parcellations, that a session keeps; of more, the oldest go."""
PARCELS, MAP = "parcels", "own"
_LONGEST = 60  # characters of a file's name
_Held = TypeVar("_Held")


@dataclass(frozen=True)
class OwnFiles:
    """What a session has opened, by name. As values of the page: ``"own:NAME"`` is a map, ``"parcels:NAME"`` the lesion
    by a parcellation."""

    maps: Mapping[str, SurfaceMap] = field(default_factory=dict)
    parcels: Mapping[str, Parcellation] = field(default_factory=dict)

    def methods(self) -> list[tuple[str, str]]:
        """The methods that the parcellations add, as (name, value)."""
        return [(f"Lesion of a parcel ({name})", f"{PARCELS}:{name}") for name in self.parcels]

    def others(self) -> list[tuple[str, str]]:
        """The maps that any map can be compared with, as (name, value)."""
        return [(f"Your map: {name}", f"{MAP}:{name}") for name in self.maps]

    def choice(
        self, method: str = "received", layer: int = -1, head: int = -1, control: str = "", position: int = -1
    ) -> MapChoice:
        """`map_choice.choose`, whose method may be one of `methods`.

        Raises
        ------
        MindvizError
            As `choose`, and for a parcellation that is not held.
        """
        kind, _, name = method.partition(":")
        if kind != PARCELS:
            return choose(method, layer, head, control, position=position)
        if name not in self.parcels:
            raise MindvizError(f"{name}: no such parcellation is open; open the file again")
        return choose("lesion_area", control=control, parcels=self.parcels[name])

    def map(self, other: str) -> tuple[str, SurfaceMap] | None:
        """Name and map that a value of `others` stands for; None for a value of another kind."""
        kind, _, name = other.partition(":")
        if kind != MAP:
            return None
        if name not in self.maps:
            raise MindvizError(f"{name}: no such map is open; open the file again")
        return name, self.maps[name]


NOTHING = OwnFiles()


def opened(own: OwnFiles, paths: Sequence[Path | str], mesh: str) -> tuple[OwnFiles, str]:
    """Read a map or parcellation, of one file or of one for each hemisphere, and put it to the others.

    Returns
    -------
    OwnFiles, str
        And the value of the page that stands for what was read.

    Raises
    ------
    MindvizError
        For files that `brain.load_map` or `load_parcellation` refuse, that are too large or packed, or of a mesh that
        is not `mesh`. It names files without their folder, which is the server's own.
    """
    files = [Path(path) for path in paths]
    try:
        return _opened(own, files, mesh)
    except MindvizError as error:
        said = str(error)
        for file in files:
            said = said.replace(str(file), shown_name(file.name))
        raise MindvizError(said) from error


def _opened(own: OwnFiles, files: list[Path], mesh: str) -> tuple[OwnFiles, str]:
    for file in files:
        size = file.stat().st_size if file.is_file() else 0
        if size > MAX_BYTES:
            raise MindvizError(f"{file}: expected at most {MAX_BYTES // 2**20} MB, found {size / 2**20:.0f}")
        if not file.name.lower().endswith((*MAP_ENDINGS, *PARCELLATION_ENDINGS)):
            raise MindvizError(
                f"{file}: expected a map ({', '.join(MAP_ENDINGS)}) or a parcellation "
                f"({', '.join(PARCELLATION_ENDINGS)}), found a name that ends otherwise"
            )
    name = " + ".join(shown_name(file.name) for file in files)
    if files and files[0].name.lower().endswith(PARCELLATION_ENDINGS):
        parcels = brain.load_parcellation(*files)
        _check_mesh(files, "a parcellation", parcels.mesh, mesh)
        return replace(own, parcels=_with(own.parcels, name, replace(parcels, name=name))), f"{PARCELS}:{name}"
    found = brain.load_map(*files)
    _check_mesh(files, "a map", found.mesh, mesh)
    return replace(own, maps=_with(own.maps, name, replace(found, label=name))), f"{MAP}:{name}"


def _check_mesh(files: list[Path], what: str, found: str, mesh: str) -> None:
    if found != mesh:
        raise MindvizError(f"{files[0]}: expected {what} on {mesh}, the mesh of these scans, found one on {found}")


def _with(held: Mapping[str, _Held], name: str, new: _Held) -> dict[str, _Held]:
    kept = {other: value for other, value in held.items() if other != name}
    return dict([*kept.items(), (name, new)][-MOST:])


def shown_name(name: str) -> str:
    """A file's name as far as it is shown: what cannot be printed as "?", the middle of a long one as "…"."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 25]}…{plain[-24:]}"
