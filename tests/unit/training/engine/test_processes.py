"""Several processes against one: the same losses and gradients, one decision to stop, one refusal.

pytest starts ``torchrun --nproc_per_node 2`` on `support.several_processes`, once for all tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import several_processes
from support.several_processes import COMPARES_SAMPLES, CONFIG, TASKS, assert_same_weights, curve, launched, make
from torch import Tensor

from training.engine.loop import step_generator, train


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did together."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return launched(launcher, several_processes.__file__, tmp_path_factory.mktemp("together"))


def _state(folder: Path) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights of a saved state, and the optimizer's running means of the gradients."""
    from safetensors.torch import load_file

    optimizer = torch.load(folder / "state" / "optimizer.bin", weights_only=True)["state"]
    return load_file(folder / "state" / "model.safetensors"), [optimizer[i]["exp_avg"] for i in sorted(optimizer)]


def _assert_same(found: Path, wanted: Path) -> None:
    assert curve(found) == pytest.approx(curve(wanted), rel=1e-5) and len(curve(found)) == CONFIG.steps
    (weights, means), (their_weights, their_means) = _state(found), _state(wanted)
    torch.testing.assert_close(means, their_means, rtol=1e-3, atol=1e-6)
    assert_same_weights(weights, their_weights)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of what one process made of a task."""
    home = tmp_path_factory.mktemp("alone")

    def folder(name: str) -> Path:
        if not (home / name).exists():
            train(make(name), CONFIG, home / name, quiet=True)
        return home / name

    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_find_the_losses_and_weights_of_one(
    name: str, together: Path, alone: Callable[[str], Path]
) -> None:
    _assert_same(together / name, alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in TASKS if n not in COMPARES_SAMPLES])
def test_so_do_two_processes_of_two_accumulated_parts(name: str, together: Path, alone: Callable[[str], Path]) -> None:
    _assert_same(together / f"{name}-parts", alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupted", "terminated"])
def test_a_signal_to_one_process_stops_both_after_the_same_step(
    how: str, together: Path, alone: Callable[[str], Path]
) -> None:
    said = [json.loads((together / f"said{rank}.json").read_text())[how] for rank in range(2)]
    assert said[0] == said[1] and said[0].startswith("KeyboardInterrupt: pairs was interrupted after step 2 of 4")
    train(make("pairs"), CONFIG, together / how, quiet=True)  # one process goes on
    _assert_same(together / how, alone("pairs"))


@pytest.mark.slow
def test_a_bad_loss_of_one_process_stops_both_and_its_samples_are_named(together: Path) -> None:
    said = [json.loads((together / f"said{rank}.json").read_text())["poisoned"] for rank in range(2)]
    drawn = torch.randint(30, (8,), generator=step_generator(0, 2, 96)).tolist()
    assert (
        said[0] == said[1]
        and f"the loss of step 2 is nan, expected a finite number; its samples are {drawn[4:]}" in said[0]
    )


@pytest.mark.slow
def test_shares_that_are_not_equal_are_refused(together: Path) -> None:
    said = json.loads((together / "said1.json").read_text())["unequal"]
    assert said == "batch_size: expected a multiple of 2 processes x 1 accumulated parts, found 9"
