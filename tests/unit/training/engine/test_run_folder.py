"""A run's folder: a checkpoint that was not finished is passed over, and another run's folder is refused."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from support.line import CONFIG, Killed, LineTask, interrupted, same_weights
from torch import nn

from mindviz.types import MindvizError
from training.engine.loop import train
from training.engine.run_folder import weights_fingerprint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LineTask:
    """A run that nothing interrupted."""
    task = LineTask()
    train(task, CONFIG, tmp_path_factory.mktemp("whole"), quiet=True)
    return task


# ---------------------------------------------------------------------- a checkpoint that was not finished
def _full_disk(monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """From the call numbered `fails` on, saving stops half-way for want of room."""
    calls, save = [0], Accelerator.save_state

    def full(self: Accelerator, output_dir: str, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] < fails:
            return save(self, output_dir, **given)
        Path(output_dir).mkdir()
        (Path(output_dir) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", output_dir)

    monkeypatch.setattr(Accelerator, "save_state", full)


def test_a_full_disk_leaves_the_state_before_usable(
    whole: LineTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _full_disk(patched, fails=2)
        with pytest.raises(MindvizError, match=r"state\.new: expected to write .*No space left.* the state before it"):
            train(LineTask(), replace(CONFIG, save_every=2), tmp_path, quiet=True)
    assert not (tmp_path / "state.new").exists()
    assert json.loads((tmp_path / "run.json").read_text())["loop"]["save_every"] == 2
    resumed = LineTask()
    train(resumed, replace(CONFIG, save_every=2), tmp_path, quiet=True)
    assert resumed.losses == whole.losses[2:]
    assert same_weights(resumed, whole)


def test_what_a_kill_leaves_of_a_checkpoint_is_passed_over(whole: LineTask, tmp_path: Path) -> None:
    """A kill while the new state was written, and one while the old was cleared away: ``state`` is the whole one."""
    with pytest.raises(Killed):
        train(interrupted(5), CONFIG, tmp_path, quiet=True)
    for leftover in ("state.new", "state.old"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "model.safetensors").write_bytes(b"half")
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert resumed.losses == whole.losses[3:]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs", "run.json", "state"]


def test_a_kill_between_the_two_renames_leaves_the_old_state(
    whole: LineTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it stays usable when the next checkpoint does not get written either."""
    with pytest.raises(Killed):
        train(interrupted(5), CONFIG, tmp_path, quiet=True)
    (tmp_path / "state").rename(tmp_path / "state.old")
    with monkeypatch.context() as patched:
        _full_disk(patched, fails=1)
        with pytest.raises(MindvizError, match="No space left"):
            train(LineTask(), CONFIG, tmp_path, quiet=True)
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert resumed.losses == whole.losses[3:]


# ---------------------------------------------------------------------- whose folder it is
def test_the_runs_folder_says_what_it_is(tmp_path: Path) -> None:
    task = LineTask()
    initial = weights_fingerprint(task.module)
    train(task, CONFIG, tmp_path, quiet=True)
    said = json.loads((tmp_path / "run.json").read_text())
    assert said == {"task": "line", "loop": asdict(CONFIG), "kind": "line", "initial": initial}


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(LineTask(), CONFIG, tmp_path, quiet=True)
    with pytest.raises(MindvizError, match=r"run\.json was begun with loop = .*0\.01.*this run has loop = .*0\.5"):
        train(LineTask(), replace(CONFIG, lr=0.5), tmp_path, quiet=True)


def test_a_folder_begun_from_other_weights_is_refused_and_named(tmp_path: Path) -> None:
    train(LineTask(), CONFIG, tmp_path, quiet=True)
    upstream_trained_again = LineTask()
    with torch.no_grad():
        upstream_trained_again.module[0].bias[0] += 1e-6
    with pytest.raises(MindvizError, match=rf"begun from other weights.*initial = .*so remove {tmp_path} to train"):
        train(upstream_trained_again, CONFIG, tmp_path, quiet=True)


def test_a_folder_of_an_older_version_is_resumed_and_brought_up_to_date(whole: LineTask, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(interrupted(5), CONFIG, tmp_path, quiet=True)
    path = tmp_path / "run.json"
    now = json.loads(path.read_text())
    older = {k: v for k, v in now.items() if k != "initial"}
    older["loop"] = {k: v for k, v in older["loop"].items() if k != "gradient_checkpointing"}
    path.write_text(json.dumps(older))
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert resumed.losses == whole.losses[3:]
    assert json.loads(path.read_text()) == now

    path.write_text(json.dumps(older))  # a field that it lacks stood at its default
    with pytest.raises(MindvizError, match=r"'gradient_checkpointing': False.*'gradient_checkpointing': True"):
        train(LineTask(), replace(CONFIG, gradient_checkpointing=True), tmp_path, quiet=True)


def test_a_fingerprint_is_that_of_every_bit() -> None:
    def made(value: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
        module = nn.Module()
        module.register_parameter("scale", nn.Parameter(torch.tensor(value, dtype=dtype)))
        module.register_buffer("grid", torch.arange(6).reshape(2, 3).T)
        return module

    assert weights_fingerprint(made()) == weights_fingerprint(made())
    others = [made(-1.0), made(dtype=torch.float16), made().train(False).requires_grad_(False)]
    assert [weights_fingerprint(m) == weights_fingerprint(made()) for m in others] == [False, False, True]
