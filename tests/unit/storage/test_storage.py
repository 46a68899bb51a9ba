"""Weights and configurations on disk: round trips, strictness, published files, atomic writes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mindviz import storage as ck
from mindviz.types import MindvizError


@dataclass(frozen=True)
class Sizes:
    width: int = 3
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    heads: int | tuple[int, ...] = 2


@dataclass(frozen=True)
class Shared:
    width: int
    heads: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise MindvizError(f"width {self.width} must be a multiple of heads {self.heads}")


class Configuration:
    """Stands for the class of a pickled training configuration; reading it back must not touch it."""

    touched = False

    def __setstate__(self, state: dict) -> None:
        Configuration.touched = True


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


@pytest.mark.parametrize(("half", "tolerance"), [(False, 0.0), (True, 1e-3)])
def test_modules_round_trip(tmp_path: Path, module: nn.Module, half: bool, tolerance: float) -> None:
    ck.save_module(tmp_path, module, Sizes(heads=(2, 4)), half=half)
    assert ck.read_config(tmp_path, Sizes) == Sizes(heads=(2, 4))
    for fresh in (
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
        ck.empty(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))),
    ):
        ck.load_module(tmp_path, fresh)
        for name, value in module.state_dict().items():
            loaded = fresh.state_dict()[name]
            assert loaded.dtype == torch.float32
            assert torch.allclose(loaded, value, atol=tolerance, rtol=0)


def test_arrays_keep_their_types(tmp_path: Path) -> None:
    arrays = {"bold": np.arange(6, dtype=np.float16).reshape(2, 3), "vertices": np.arange(3, dtype=np.int32)}
    ck.save_arrays(tmp_path / "a.safetensors", arrays)
    loaded = ck.load_arrays(tmp_path / "a.safetensors")
    assert {k: v.dtype for k, v in loaded.items()} == {"bold": np.float16, "vertices": np.int32}
    assert all(np.array_equal(loaded[k], arrays[k]) for k in arrays)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"width": 3, "rate": 1, "names": ["a"]}', r"missing \['heads'\]"),
        ('{"width": 3, "rate": 1, "names": ["a"], "heads": 2, "depth": 1}', r"unknown \['depth'\]"),
        ('{"width": "3", "rate": 1, "names": ["a"], "heads": 2}', "expected width to be int, found '3'"),
        ('{"width": true, "rate": 1, "names": ["a"], "heads": 2}', "expected width to be int, found True"),
        ('{"width": 3, "rate": 1, "names": [1], "heads": 2}', "expected names"),
        ('{"width": 3,', "expected JSON"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_configurations_are_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(MindvizError, match=message):
        ck.read_config(tmp_path, Sizes)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (3, "config.json: width 4 must be a multiple of heads 3$"),
        (0, "config.json: expected values that make a Shared,"),
    ],
)
def test_configurations_that_cannot_be_are_refused_by_file(tmp_path: Path, heads: int, message: str) -> None:
    ck.write_json(tmp_path / "config.json", {"width": 4, "heads": heads})
    with pytest.raises(MindvizError, match=message) as caught:
        ck.read_config(tmp_path, Shared)
    assert str(caught.value).startswith(str(tmp_path))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, module: nn.Module) -> None:
    good = module.state_dict()
    bad = {
        "1 missing": {k: v for k, v in good.items() if k != "0.bias"},
        r"1 unknown \['extra'\]": good | {"extra": torch.ones(1)},
        r"0.bias of shape \(4,\), found \(5,\)": good | {"0.bias": torch.ones(5)},
        "finite values in 0.bias": good | {"0.bias": torch.full((4,), torch.inf)},
    }
    for message, state in bad.items():
        with pytest.raises(MindvizError, match=message):
            ck.load_state(module, state, tmp_path / "file")


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(MindvizError, match=r"x.safetensors: expected a safetensors file, found nothing"):
        ck.load_tensors(path)
    ck.save_tensors(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MindvizError, match="found 200 bytes that do not read"):
        ck.load_tensors(path)
    with pytest.raises(MindvizError, match="expected a folder, found a file"):
        ck.require_folder(path)


# ---------------------------------------------------------------------- published files
@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_pickled_configuration_is_skipped_without_running(tmp_path: Path, key: str) -> None:
    path, weights = tmp_path / "model.pth", {"a": torch.ones(2, dtype=torch.float16)}
    config = Configuration()
    config.options = {"depth": 2}
    torch.save({key: weights, "config": config, "epoch": 3}, path)
    loaded = ck.read_published_weights(path)
    assert set(loaded) == {"a"}
    assert loaded["a"].dtype == torch.float32
    assert not Configuration.touched


def test_malicious_pickles_are_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"model": {"a": torch.ones(1)}, "config": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(MindvizError, match="do not read as such"):
        ck.read_published_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2]), b"PK\x03\x04 half a zip"])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(content)
    with pytest.raises(MindvizError, match=r"w.bin: expected"):
        ck.read_published_weights(path)


# ---------------------------------------------------------------------- atomic writes
def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with ck.atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    for fails in (ck.atomic_folder, ck.atomic_file):
        with pytest.raises(RuntimeError), fails(target if fails is ck.atomic_folder else tmp_path / "file"):
            raise RuntimeError("half-way")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "out"]
    with ck.atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b", "out"]


@pytest.mark.parametrize("failing", ["old", "new"])
def test_a_failed_replacement_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target, replace = tmp_path / "out", Path.replace
    ck.write_json(target / "a", {})

    def fails(path: Path, to: Path) -> Path:
        if path.is_dir() and path.name != "it" and (path == target) == (failing == "old"):
            raise OSError("busy")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="busy"), ck.atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "out"]


def test_an_old_folder_that_cannot_be_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, replace = tmp_path / "out", Path.replace
    ck.write_json(target / "a", {})

    def fails(path: Path, to: Path) -> Path:
        if path.is_dir() and path != target:
            raise OSError("busy")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="busy"), ck.atomic_folder(target):
        pass
    assert [p.name for p in tmp_path.rglob("a")] == ["a"]
    assert len(list(tmp_path.iterdir())) == 1


def test_folders_that_cannot_be_replaced_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    for target, found in (
        (".", "the current"),
        ("..", "the current"),
        ("../file", "a file"),
        ("/", "a mount point"),
        ("../file/a", ".*file, which is a file"),
    ):
        with pytest.raises(MindvizError, match=f"can be made or replaced, found {found}"), ck.atomic_folder(target):
            pytest.fail("the work was begun")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "here"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with ck.atomic_folder(tmp_path / "link") as folder:
        (folder / "a").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a").is_file()


def test_fingerprints_follow_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = ck.fingerprint(tmp_path)
    assert first == ck.fingerprint(tmp_path)
    (tmp_path / "a").write_text("2")
    second = ck.fingerprint(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, ck.fingerprint(tmp_path)}) == 3
