"""Which area of the HCP parcellation responds to what in a film (the planted truth of the demo world).

Names follow Glasser et al. 2016. The assignment follows the literature: motion energy in early visual cortex
(Nishimoto et al. 2011), motion direction in MT and its satellites, meaning in ventral and lateral occipitotemporal
cortex (Huth et al. 2012), faces and animals in the fusiform face complex (Kanwisher et al. 1997), scenes in
parahippocampal and retrosplenial cortex (Epstein & Kanwisher 1998), location in the intraparietal sulcus and frontal
eye fields, and slowly accumulated meaning in the default-mode network (Hasson et al. 2008; Simony et al. 2016).
"""

from __future__ import annotations

import numpy as np

from mindviz.brain import parcellations
from mindviz.types import MindvizError

DRIVERS: tuple[str, ...] = (
    "nothing",
    "motion energy",
    "local motion",
    "object meaning",
    "setting",
    "position and size",
    "story",
    "sound track (decoy)",
    "run structure (decoy)",
)
"""What drives a vertex; `driver` in truth.safetensors indexes this tuple."""
DECOYS: tuple[str, ...] = DRIVERS[7:]

AREAS: dict[str, tuple[str, ...]] = {
    "motion energy": ("V1", "V2", "V3", "V4", "V3A", "V3B"),
    "local motion": ("MT", "MST", "V4t", "FST"),
    "object meaning": ("LO1", "LO2", "LO3", "PIT", "V8", "VVC", "FFC", "PH", "TPOJ1", "TPOJ2", "TPOJ3"),
    "setting": ("PHA1", "PHA2", "PHA3", "VMV1", "VMV2", "VMV3", "RSC", "POS1", "POS2"),
    "position and size": (
        *("IPS1", "IP0", "IP1", "IP2", "LIPv", "LIPd", "VIP", "MIP", "AIP", "7PC", "7PL", "7AL", "7Am", "FEF", "PEF"),
    ),
    "story": (
        *("7m", "31pv", "31pd", "d23ab", "v23ab", "PGi", "PGs", "9m", "10r", "10d", "8Ad", "8BL", "TE1a", "d32", "p32"),
    ),
    "sound track (decoy)": ("A1", "LBelt", "MBelt", "PBelt", "RI", "A4", "A5", "52"),
    "run structure (decoy)": ("4", "3a", "3b", "1", "2"),
}
"""Driver -> areas, both hemispheres. No area has two drivers."""
ANIMATE_AREAS = ("FFC",)
ANIMATE_WORDS = ("person", "animal", "bird", "insect", "people")
"""Words of a shot's category that make its object animate."""


def area_names() -> np.ndarray:
    """Area name of every cortical vertex, without the hemisphere, str [59412]; '' outside the parcellation."""
    parcellation = parcellations.load("hcp-mmp")
    names = np.array([str(name).removeprefix("L_").removeprefix("R_") for name in parcellation.names])
    return names[parcellation.labels]


def driver_map(areas: np.ndarray) -> np.ndarray:
    """Index into `DRIVERS` for every vertex, uint8, from its area name.

    Raises
    ------
    MindvizError
        If the parcellation lacks an area in `AREAS`.
    """
    drivers = np.zeros(len(areas), np.uint8)
    for driver, members in AREAS.items():
        missing = sorted(set(members) - set(areas.tolist()))
        if missing:
            raise MindvizError(
                f"the parcellation hcp-mmp: expected the areas of {driver!r}, found no {', '.join(missing)}"
            )
        drivers[np.isin(areas, members)] = DRIVERS.index(driver)
    return drivers


def is_animate(category: str) -> bool:
    """True for categories of people or animals."""
    return any(word in category.lower() for word in ANIMATE_WORDS)
