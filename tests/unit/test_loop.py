"""The training loop: exact resumption, refusal of another run's folder, a clear stop at a bad loss."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mindviz.types import MindvizError
from training.loop import LoopConfig, learning_rate, step_generator, train

CONFIG = LoopConfig(steps=6, batch_size=8, lr=1e-2, warmup=2, ema_decay=0.9, save_every=3, log_every=2)


class LineTask:
    """Fit a line with noisy inputs and dropout: three sources of randomness in one step."""

    name = "line"

    def __init__(self, stop_after: int | None = None, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
        self.stop_after, self.poison, self.calls = stop_after, poison, 0
        self.losses: list[float] = []

    def __len__(self) -> int:
        return len(self.x)

    def description(self) -> dict[str, Any]:
        return {"kind": "line"}

    def loss(self, model: nn.Module, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        x = self.x[indices]
        noisy = x + 0.1 * torch.randn(x.shape, generator=generator)
        loss = (model(noisy)[:, 0] - x.sum(1)).square().mean()
        if self.calls == self.poison:
            loss = loss * float("nan")
        self.calls += 1
        self.losses.append(loss.item())
        return loss, {}


def test_an_interrupted_run_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = LineTask()
    train(whole, CONFIG, tmp_path / "whole", quiet=True)
    broken = LineTask(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        train(broken, CONFIG, tmp_path / "broken", quiet=True)
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path / "broken", quiet=True)
    assert resumed.losses == whole.losses[3:]  # saved at step 3
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name


def test_a_finished_run_gives_its_weights_without_a_step(tmp_path: Path) -> None:
    first, again = LineTask(), LineTask()
    train(first, CONFIG, tmp_path, quiet=True)
    train(again, CONFIG, tmp_path, quiet=True)
    assert again.calls == 0
    assert torch.equal(first.module[0].weight, again.module[0].weight)


def test_accumulated_parts_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    class Plain(LineTask):
        def loss(self, model: nn.Module, indices: Tensor, generator: torch.Generator) -> Any:
            x = self.x[indices]
            return (model.eval()(x)[:, 0] - x.sum(1)).square().mean(), {}

    config = replace(CONFIG, ema_decay=0.0)
    whole, parts = Plain(), Plain()
    train(whole, config, tmp_path / "a", quiet=True)
    train(parts, replace(config, accumulate=4), tmp_path / "b", quiet=True)
    torch.testing.assert_close(whole.module[0].weight, parts.module[0].weight, rtol=1e-5, atol=1e-6)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    train(LineTask(), CONFIG, tmp_path, quiet=True)
    with pytest.raises(MindvizError, match=r"run\.json was begun with loop = .*0\.01.*this run has loop = .*0\.5"):
        train(LineTask(), replace(CONFIG, lr=0.5), tmp_path, quiet=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_samples(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match=r"line: the loss of step 4 is nan, .* its samples are \[\d+"):
        train(LineTask(poison=4), CONFIG, tmp_path, quiet=True)
    assert (tmp_path / "state").is_dir()  # of step 3, still usable


def test_a_kill_between_the_two_renames_leaves_the_old_state(tmp_path: Path) -> None:
    whole = LineTask()
    train(whole, CONFIG, tmp_path / "whole", quiet=True)
    broken = LineTask(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        train(broken, CONFIG, tmp_path / "b", quiet=True)
    (tmp_path / "b" / "state").rename(tmp_path / "b" / "state.old")
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path / "b", quiet=True)
    assert resumed.losses == whole.losses[3:]


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = LoopConfig(steps=100, batch_size=1, lr=2.0, warmup=10)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 9) == learning_rate(config, 10) == pytest.approx(2.0)
    assert learning_rate(config, 55) == pytest.approx(1.0)
    assert learning_rate(config, 100) == pytest.approx(0.0)


def test_a_steps_randomness_depends_on_seed_step_and_part_alone() -> None:
    def draw(*key: int) -> list[float]:
        return torch.rand(3, generator=step_generator(*key)).tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*key)) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}) == 4


def test_the_runs_folder_says_what_it_is(tmp_path: Path) -> None:
    train(LineTask(), CONFIG, tmp_path, quiet=True)
    assert json.loads((tmp_path / "run.json").read_text())["loop"]["steps"] == 6
