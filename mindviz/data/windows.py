"""Which volumes of a cleaned run are used to decode which clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindviz.types import MindvizError


@dataclass(frozen=True)
class WindowSpec:
    """The window of scans that respond to one clip.

    The clip of TR `k` lasts from film second ``k * TR`` to ``(k + 1) * TR``. Volume `i` of a cleaned run is acquired
    around film time ``(i + 1/2) * TR``, so volumes ``k + lag .. k + lag + size - 1`` follow the centre of the clip by
    ``lag * TR``, ``(lag + 1) * TR``, … seconds: 4 and 6 s with the defaults and a TR of 2 s, around the peak of the
    haemodynamic response.

    Attributes
    ----------
    size : int
        Volumes in a window (`T`), at least 1.
    lag : int
        Volumes between a clip and the first volume of its window, at least 0.
    """

    size: int = 2
    lag: int = 2

    def __post_init__(self) -> None:
        if self.size < 1 or self.lag < 0:
            raise MindvizError(f"a window needs a size of at least 1 and a lag of at least 0, found {self}")

    def indices(self, num_volumes: int) -> np.ndarray:
        """Volume of every scan in every window, int64 [num_volumes, size], clamped to the last volume."""
        wanted = np.arange(num_volumes)[:, None] + self.lag + np.arange(self.size)[None, :]
        return np.minimum(wanted, num_volumes - 1)

    def clamped(self, index: int, num_volumes: int) -> bool:
        """True where window `index` reaches past the end of a run of `num_volumes`."""
        return index + self.lag + self.size > num_volumes

    def cut(self, bold: np.ndarray) -> np.ndarray:
        """All windows of a run: bold [time, V] -> [time, size, V], one window for each volume."""
        return bold[self.indices(len(bold))]
