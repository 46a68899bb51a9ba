"""What lies on disk: atomic writing, configurations, weights."""

from mindviz.storage.atomic import atomic_file, atomic_folder, replaceable
from mindviz.storage.configurations import CONFIG_FILE, adopt_config, config_from_dict, read_config
from mindviz.storage.files import read_json, require_file, require_folder, write_json
from mindviz.storage.published import read_published_weights
from mindviz.storage.weights import (
    WEIGHTS_FILE,
    empty,
    fingerprint,
    load_arrays,
    load_module,
    load_state,
    load_tensors,
    save_arrays,
    save_module,
    save_tensors,
)

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "adopt_config",
    "atomic_file",
    "atomic_folder",
    "config_from_dict",
    "empty",
    "fingerprint",
    "load_arrays",
    "load_module",
    "load_state",
    "load_tensors",
    "read_config",
    "read_json",
    "read_published_weights",
    "replaceable",
    "require_file",
    "require_folder",
    "save_arrays",
    "save_module",
    "save_tensors",
    "write_json",
]
