"""A dataset on disk, its readers and its checks; windows of scans."""

from mindviz.data.dataset import Dataset, DatasetInfo, Truth
from mindviz.data.selection import Selection, select_reliable
from mindviz.data.wen2018 import Preparation, PrepareOptions, prepare
from mindviz.data.windows import WindowSpec

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Preparation",
    "PrepareOptions",
    "Selection",
    "Truth",
    "WindowSpec",
    "prepare",
    "select_reliable",
]
