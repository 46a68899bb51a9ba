"""The shipped demo decodes what it decoded when it was published: three clips and a map, to the last bit.

``python tests/flow/test_demo_as_published.py`` writes the reference anew, after another demo is published. On the kind
of processor that wrote it, hashes must agree; others round otherwise, and are allowed a grey level here and there.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mindviz.attribution.attention import attention_map
from mindviz.data import Dataset
from mindviz.decoder import Decoder

DEMO = Path(__file__).parents[2] / "assets" / "demo"
HASHES = Path(__file__).parent / "reference" / "demo.json"
ARRAYS = HASHES.with_suffix(".npz")
SCANS = (("1", 17), ("2", 42), ("3", 102))


def processor() -> str:
    """What decides how a processor rounds here: its model, the instructions torch uses, and torch itself."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    named = [re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE) for key in ("vendor_id", "cpu family", "model")]
    model = " ".join(found.group(1) for found in named if found)
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def decode_all() -> dict[str, np.ndarray]:
    decoder, dataset = Decoder.load(DEMO / "checkpoint"), Dataset.open(DEMO)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are added up in another order by several
    try:
        decoded = {s: decoder.decode(dataset.window(s, "test1", scan)) for s, scan in SCANS}
    finally:
        torch.set_num_threads(threads)
    clips = {f"subject {s}, scan {scan}": decoded[s].clip.frames for s, scan in SCANS}
    return clips | {"attention, subject 1, scan 17": attention_map(decoder, decoded["1"], "1").values}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    return decode_all()


def test_the_demo_decodes_what_it_did(found: dict[str, np.ndarray]) -> None:
    expected = json.loads(HASHES.read_text(encoding="utf-8"))
    assert set(found) == set(expected["sha256"])
    if processor() != expected["processor"]:
        pytest.skip(f"hashes are of {expected['processor']}, this is {processor()}; the next test compares values")
    assert {name: digest(array) for name, array in found.items()} == expected["sha256"]


def test_the_demo_decodes_the_same_pictures_on_any_processor(found: dict[str, np.ndarray]) -> None:
    with np.load(ARRAYS) as kept:
        assert set(kept) == set(found)
        for name, array in found.items():
            if array.dtype == np.uint8:
                apart = np.abs(array.astype(int) - kept[name])
                assert apart.max() <= 2 and (apart > 0).mean() < 0.005, name
            else:
                np.testing.assert_allclose(array, kept[name], rtol=1e-5, err_msg=name)


if __name__ == "__main__":
    arrays = decode_all()
    HASHES.parent.mkdir(exist_ok=True)
    np.savez_compressed(ARRAYS, **arrays)
    kept = {"processor": processor(), "sha256": {name: digest(array) for name, array in arrays.items()}}
    HASHES.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
