"""What a person asks to see of a decoded scan: one map, perhaps another beside it, and the files that both may use."""

from __future__ import annotations

from dataclasses import dataclass

from mindviz.session.map_choice import MapChoice
from mindviz.session.own_files import NOTHING, OwnFiles


@dataclass(frozen=True)
class MapRequest:
    """Built once, where the choices are read (the page, the command line), and handed on whole.

    Attributes
    ----------
    choice : the map.
    other : a value of `map_names.others`: the map beside it; ``""`` for none.
    own : the maps and parcellations that the person has opened, which `other` may name.
    """

    choice: MapChoice
    other: str = ""
    own: OwnFiles = NOTHING

    @classmethod
    def read(
        cls,
        method: str = "received",
        layer: int = -1,
        head: int = -1,
        control: str = "",
        position: int = -1,
        own: OwnFiles = NOTHING,
        other: str = "",
    ) -> MapRequest:
        """From the values of the page's lists, in their order (`OwnFiles.choice` says what they can be)."""
        return cls(own.choice(method, layer, head, control, position), other, own)
