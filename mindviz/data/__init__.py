"""Datasets on disk, with their readers and checks; windows of scans."""

from mindviz.data.dataset import Dataset
from mindviz.data.dataset_info import DatasetInfo, Truth
from mindviz.data.preparation import Preparation, PrepareOptions, prepare
from mindviz.data.selection import Selection, select_reliable
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
