"""The training loop: resuming bit for bit, refusing another run's folder, a clear stop at a bad loss."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from support.line import CONFIG, Killed, LineTask, interrupted, same_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mindviz.types import MindvizError
from training.engine import loop
from training.engine.batch import Batch, share
from training.engine.loop import LoopConfig, check_shares, learning_rate, step_generator, train
from training.engine.processes import gathered
from training.engine.run_folder import weights_fingerprint


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A shell starts background jobs deaf to it; then `Interrupt` leaves it so, and these tests would test nothing."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LineTask:
    """A run that nothing interrupted."""
    task = LineTask()
    train(task, CONFIG, tmp_path_factory.mktemp("whole"), quiet=True)
    return task


# ---------------------------------------------------------------------- interrupted and resumed
def test_a_killed_run_continues_bit_for_bit(whole: LineTask, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(interrupted(5), CONFIG, tmp_path, quiet=True)
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert resumed.losses == whole.losses[3:]  # saved at step 3
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("step", range(6))
def test_ctrl_c_at_any_step_saves_and_the_run_continues_bit_for_bit(whole: LineTask, tmp_path: Path, step: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    broken = interrupted(step, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=rf"line was interrupted after step {step + 1} of 6.*state.*goes on"):
        train(broken, CONFIG, tmp_path, quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert broken.losses + resumed.losses == whole.losses
    assert same_weights(resumed, whole)


def test_a_request_to_terminate_saves_too(whole: LineTask, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="after step 2 of 6"):
        train(interrupted(1, signal.SIGTERM), CONFIG, tmp_path, quiet=True)
    resumed = LineTask()
    train(resumed, CONFIG, tmp_path, quiet=True)
    assert resumed.losses == whole.losses[2:]


def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path: Path) -> None:
    class Impatient(LineTask):
        def loss(self, *given: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not left")

    with pytest.raises(KeyboardInterrupt, match="interrupted twice"):
        train(Impatient(), CONFIG, tmp_path, quiet=True)
    assert not (tmp_path / "state").exists()


def test_the_logged_loss_curve_continues(whole: LineTask, tmp_path: Path) -> None:
    config = replace(CONFIG, log_every=1)
    with pytest.raises(Killed):
        train(interrupted(4), config, tmp_path, quiet=True)
    train(LineTask(), config, tmp_path, quiet=True)
    logged: dict[int, float] = {}
    for file in sorted((tmp_path / "logs").rglob("events*"), key=lambda p: p.stat().st_mtime):
        events = EventAccumulator(str(file)).Reload()
        logged |= {event.step: event.value for event in events.Scalars("loss")}
    assert [logged[i] for i in range(1, 7)] == torch.tensor(whole.losses).tolist()


def test_a_finished_run_gives_its_weights_without_a_step(tmp_path: Path) -> None:
    first, again = LineTask(), LineTask()
    train(first, CONFIG, tmp_path, quiet=True)
    train(again, CONFIG, tmp_path, quiet=True)
    assert again.calls == 0
    assert same_weights(first, again)


# ---------------------------------------------------------------------- a step
def test_a_steps_randomness_depends_on_seed_step_and_part_alone() -> None:
    def draw(*key: int) -> list[float]:
        return torch.rand(3, generator=step_generator(*key)).tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*key)) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}) == 4


def test_the_stream_of_random_numbers_is_the_one_that_runs_were_begun_with(tmp_path: Path) -> None:
    """Folders outlive versions of the loop: a step's samples, noise and dropout must never change."""
    drawn: list[tuple[list[int], int]] = []
    seen: list[float] = []

    class Watched(LineTask):
        def draw(self, indices: Tensor, generator: torch.Generator) -> Batch:
            drawn.append((indices.tolist(), generator.initial_seed()))
            return super().draw(indices, generator)

        def loss(self, model: nn.Module, batch: Batch) -> Any:
            seen.append(torch.rand(()).item())
            torch.manual_seed(0)
            return super().loss(model, batch)

    train(Watched(), replace(CONFIG, seed=3, steps=2), tmp_path, quiet=True)
    assert len(drawn) == len(seen) == 2
    for step, ((indices, seed), dropout) in enumerate(zip(drawn, seen, strict=True)):
        first = (3 * 1_000_003 + step) * 97
        assert indices == torch.randint(50, (8,), generator=torch.Generator().manual_seed(first + 96)).tolist()
        assert seed == first
        assert dropout == torch.rand((), generator=torch.Generator().manual_seed(first)).item()


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_take_the_step_of_the_whole(tmp_path: Path, parts: int) -> None:
    config = replace(CONFIG, ema_decay=0.0)
    one, several = LineTask(dropout=0.0), LineTask(dropout=0.0)
    train(one, config, tmp_path / "a", quiet=True)
    train(several, replace(config, accumulate=parts), tmp_path / "b", quiet=True)
    means = torch.tensor(several.losses).view(6, parts).mean(1)
    torch.testing.assert_close(means, torch.tensor(one.losses), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(several.module.state_dict(), one.module.state_dict(), rtol=1e-5, atol=1e-6)


def test_shares_are_equal_and_in_order() -> None:
    rows = [list(range(12))[share(12, part * 3 + rank, 6)] for part in range(2) for rank in range(3)]
    assert rows == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_unequal_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match="multiple of 1 processes x 3 accumulated parts, found 8"):
        train(LineTask(), replace(CONFIG, accumulate=3), tmp_path, quiet=True)
    assert not (tmp_path / "run.json").exists()


def test_what_sharded_parameters_cannot_do_is_refused() -> None:
    with pytest.raises(MindvizError, match=r"ema_decay: expected 0 under FSDP, .*found 0\.9"):
        check_shares(CONFIG, 2, DistributedType.FSDP)
    with pytest.raises(MindvizError, match=r"accumulate: expected 1 under DEEPSPEED, .*found 2"):
        check_shares(replace(CONFIG, ema_decay=0.0, accumulate=2), 2, DistributedType.DEEPSPEED)
    check_shares(CONFIG, 2, DistributedType.MULTI_GPU)


def test_sharded_weights_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `train` returns where weights are sharded, made from one process's; `test_loop_fsdp` has two of them."""
    config = replace(CONFIG, ema_decay=0.0)
    plain, task = LineTask(), LineTask()
    train(plain, config, tmp_path / "a", quiet=True)
    monkeypatch.setattr(loop, "SHARDED", (DistributedType.NO,))
    returned = train(task, config, tmp_path / "b", quiet=True)
    assert returned is task.module and not returned.training
    torch.testing.assert_close(returned.state_dict(), plain.module.state_dict(), rtol=0, atol=0)


def test_one_process_gathers_nothing() -> None:
    own = torch.ones(2, 3)
    assert gathered(own) is own


# ---------------------------------------------------------------------- numbers
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_samples(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match=r"line: the loss of step 4 is nan, .* its samples are \[\d+"):
        train(LineTask(poison=4), CONFIG, tmp_path, quiet=True)
    assert (tmp_path / "state").is_dir()  # of step 3, still usable


def test_the_bad_part_is_the_one_whose_samples_are_named(tmp_path: Path) -> None:
    drawn = torch.randint(50, (8,), generator=step_generator(0, 2, 96)).tolist()
    with pytest.raises(MindvizError) as refusal:
        train(LineTask(poison=5), replace(CONFIG, accumulate=2), tmp_path, quiet=True)
    assert f"loss of step 2 is nan, expected a finite number; its samples are {drawn[4:]}" in str(refusal.value)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    class Steep(LineTask):
        def loss(self, *given: Any) -> Any:
            loss, figures = super().loss(*given)
            return loss + 0 * (loss * 0).sqrt(), figures  # its derivative at 0 is infinite

    task = Steep()
    before = weights_fingerprint(task.module)
    with pytest.raises(MindvizError, match=r"line: the gradient's norm of step 0 is nan"):
        train(task, CONFIG, tmp_path, quiet=True)
    assert weights_fingerprint(task.module) == before


def test_bfloat16_learns_and_hands_the_module_back_with_its_own_forward(tmp_path: Path) -> None:
    task = LineTask(dropout=0.0)
    train(task, replace(CONFIG, mixed_precision="bf16"), tmp_path, quiet=True)
    assert task.losses[-1] < task.losses[0]
    assert all(p.dtype == torch.float32 for p in task.module.parameters())
    x = torch.randn(4, 3)
    wanted = nn.functional.linear(task.module[0](x), task.module[2].weight, task.module[2].bias)
    assert torch.equal(task.module(x), wanted)  # in float32 again


def test_float16_is_refused_where_there_is_no_accelerator(tmp_path: Path) -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(MindvizError, match="mixed_precision: expected no or bf16 on a CPU, found fp16"):
        train(LineTask(), replace(CONFIG, mixed_precision="fp16"), tmp_path, quiet=True)


def test_gradient_checkpointing_recomputes_and_changes_nothing(whole: LineTask, tmp_path: Path) -> None:
    class Checkpointed(nn.Sequential):
        calls, on = 0, False

        def set_gradient_checkpointing(self, enable: bool) -> None:
            self.on = enable

        def inner(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False) if self.on else self.inner(x)

    task = LineTask()
    task.module = module = Checkpointed(*task.module)
    train(task, replace(CONFIG, gradient_checkpointing=True), tmp_path / "a", quiet=True)
    assert task.losses == whole.losses and same_weights(task, whole)
    assert module.calls == 12 and not module.on  # forward, and again in each backward pass
    with pytest.raises(MindvizError, match="gradient_checkpointing: expected False for the stage line"):
        train(LineTask(), replace(CONFIG, gradient_checkpointing=True), tmp_path / "b", quiet=True)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = LoopConfig(steps=100, batch_size=1, lr=2.0, warmup=10)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 9) == learning_rate(config, 10) == pytest.approx(2.0)
    assert learning_rate(config, 55) == pytest.approx(1.0)
    assert learning_rate(config, 100) == pytest.approx(0.0)


def test_a_precision_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MindvizError, match="mixed_precision 'half' cannot be had here"):
        train(LineTask(), replace(CONFIG, mixed_precision="half"), tmp_path, quiet=True)


def test_the_progress_bar_tells_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(LineTask(), CONFIG, tmp_path)
    shown = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"line: 100%.* 6/6 \[\d\d:\d\d<\d\d:\d\d, .*loss=.*lr=", shown), shown
