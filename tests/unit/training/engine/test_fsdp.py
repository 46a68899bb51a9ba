"""FSDP in two processes on CPUs against one process: the same losses, gradients and weights; and what is refused.

pytest starts ``accelerate launch`` on this very file, once for all slow tests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import several_processes as processes
from support.several_processes import Pairs, assert_same_weights, curve, launched, make, on_rank_1
from torch import Tensor, nn

from mindviz.types import MindvizError
from training.engine.loop import LoopConfig, Task, train
from training.engine.shards import begin, fsdp_plugin, shardable

SETTINGS = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 2
use_cpu: true
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: NO_WRAP
  fsdp_transformer_layer_cls_to_wrap: Linear
  fsdp_state_dict_type: FULL_STATE_DICT
"""
CONFIG = replace(processes.CONFIG, ema_decay=0.0, save_every=4)
LOW = replace(CONFIG, mixed_precision="bf16")
RUNS = {
    "pairs": ("pairs", CONFIG),  # a scalar; half of the weights in a step; comparisons over processes
    "blocks": ("pairs", CONFIG),  # gathered one by one
    "image": ("image", CONFIG),  # weights that do not lie in memory row by row
    "mask": ("mask", CONFIG),  # weights that are not trained
    "parts": ("mask", replace(CONFIG, accumulate=2)),
    "low": ("contrast", LOW),
    "cotrain": ("cotrain", CONFIG),
}
"""Name: task, and how it is trained."""


class SteepPairs(Pairs):
    """In its second step, the derivative by the first weight of the first row, of the first process, is no number."""

    calls = 0

    def forward(self, x: Tensor, which: int) -> tuple[Tensor, Tensor]:
        found, scale = super().forward(x, which)
        self.calls += 1
        if self.calls == 2:
            found = found + 0 * (0 * self.halves[which].weight[0, 0]).sqrt()
        return found, scale


def work(out: Path) -> None:
    """What each of the two processes does."""
    returned = {}
    for name, (task, config) in RUNS.items():
        os.environ["FSDP_AUTO_WRAP_POLICY"] = "TRANSFORMER_BASED_WRAP" if name == "blocks" else "NO_WRAP"
        given = make(task)
        module = train(given, config, out / name, quiet=True)
        saved = load_file(out / name / "weights.safetensors")
        returned[name] = module is given.module and all(
            torch.equal(t, saved[n]) for n, t in module.state_dict().items()
        )
    stopped, steep, apart = make("pairs"), make("pairs"), make("pairs")
    stopped.fault = on_rank_1(signal.SIGINT, 0)  # half of the weights have had no gradient yet
    said = {"stopped": _said(stopped, CONFIG, out / "stopped")}
    train(make("pairs"), CONFIG, out / "stopped", quiet=True)
    steep.module = SteepPairs()
    steep.module.load_state_dict(apart.module.state_dict())
    said["steep"] = _said(steep, CONFIG, out / "steep")
    nn.init.constant_(apart.module.scale, float(os.environ["RANK"]))
    said["apart"] = _said(apart, CONFIG, out / "apart")
    said["average"] = _said(make("pairs"), processes.CONFIG, out / "average")
    (out / f"said{os.environ['RANK']}.json").write_text(json.dumps(said | {"returned": returned}))


def _said(task: Task, config: LoopConfig, out: Path) -> str:
    try:
        train(task, config, out, quiet=True)
    except (KeyboardInterrupt, MindvizError) as stop:
        return f"{type(stop).__name__}: {stop}"
    return "nothing"


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did together."""
    home = tmp_path_factory.mktemp("fsdp")
    (home / "settings.yaml").write_text(SETTINGS)
    launcher = ["accelerate.commands.launch", "--config_file", str(home / "settings.yaml"), "--main_process_port", "0"]
    return launched(launcher, __file__, home)


@pytest.fixture
def said(together: Path) -> list[dict[str, Any]]:
    """What each process said of each run."""
    return [json.loads((together / f"said{rank}.json").read_text()) for rank in range(2)]


def _gradients(folder: Path, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's running means of the gradients, by weight; of one process it numbers them, matrices first."""
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    ordered = sorted(trained, key=lambda name: trained[name].ndim <= 1)
    state = torch.load(folder / "state" / "optimizer.bin", weights_only=True)["state"]
    means = {ordered[key] if isinstance(key, int) else key: value["exp_avg"] for key, value in state.items()}
    return {n: means[n].reshape(p.shape) if n in means else torch.zeros_like(p) for n, p in trained.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_cut_weights_find_the_losses_gradients_and_weights_of_whole_ones(
    name: str, together: Path, said: list[dict[str, Any]], tmp_path: Path
) -> None:
    task, config = RUNS[name]
    low = config.mixed_precision != "no"
    module = train(make(task), replace(config, accumulate=1), tmp_path, quiet=True)
    assert curve(together / name) == pytest.approx(curve(tmp_path), rel=1e-2 if low else 1e-5)
    found, wanted = _gradients(together / name, module), _gradients(tmp_path, module)
    torch.testing.assert_close(found, wanted, rtol=0.1 if low else 1e-3, atol=1e-3 if low else 1e-6)
    weights = module.state_dict()
    assert [s["returned"][name] for s in said] == [True, True]
    module.load_state_dict(load_file(together / name / "weights.safetensors"))  # all of them, in their shapes
    if not low:
        assert_same_weights(module.state_dict(), weights)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bit_for_bit(together: Path, said: list[dict[str, Any]]) -> None:
    assert all(s["stopped"].startswith("KeyboardInterrupt: pairs was interrupted after step 1 of 4") for s in said)
    whole, stopped = (load_file(together / name / "weights.safetensors") for name in ("pairs", "stopped"))
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)
    with pytest.raises(MindvizError, match="state: expected the state of a run without FSDP, found one under it"):
        train(make("pairs"), CONFIG, together / "pairs", quiet=True)


@pytest.mark.slow
def test_a_gradient_of_one_part_that_is_not_finite_stops_both(said: list[dict[str, Any]]) -> None:
    assert said[0]["steep"] == said[1]["steep"]
    assert "pairs: the gradient's norm of step 1 is nan, expected a finite number" in said[0]["steep"]


@pytest.mark.slow
def test_what_cannot_be_cut_is_refused(said: list[dict[str, Any]]) -> None:
    for s in said:
        assert s["apart"].startswith("MindvizError: FSDP: expected every process to begin with the same weights")
        assert s["average"].startswith("MindvizError: ema_decay: expected 0 under FSDP")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("FSDP_VERSION=1", "fsdp_version: expected 2, .* found 1"),
        ("FSDP_STATE_DICT_TYPE=SHARDED_STATE_DICT", "fsdp_state_dict_type: expected FULL_STATE_DICT"),
        ("FSDP_AUTO_WRAP_POLICY=SIZE_BASED_WRAP", "fsdp_auto_wrap_policy: expected NO_WRAP or TRANSFORMER_BASED_WRAP"),
        ("FSDP_OFFLOAD_PARAMS=true", "fsdp_offload_params: expected false"),
        ("FSDP_ACTIVATION_CHECKPOINTING=true", "fsdp_activation_checkpointing: expected false"),
        ("FSDP_IGNORED_MODULES=norm", "fsdp_ignored_modules: expected none"),
        ("FSDP_VERSION=2", "FSDP: expected processes started by torchrun or accelerate launch"),
    ],
)
def test_settings_that_do_not_work_are_refused(setting: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv(*setting.split("="))
    with pytest.raises(MindvizError, match=message):
        fsdp_plugin("no", cpu=True)


def test_deepspeed_is_refused_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(MindvizError, match="DeepSpeed: expected accelerators, found CPUs"):
        fsdp_plugin("no", cpu=True)


def test_a_shardable_copy_computes_the_same_and_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3)).to(memory_format=torch.channels_last)
    module.register_parameter("scale", nn.Parameter(torch.tensor(2.0)))
    copied = shardable(module)
    assert copied.scale.shape == (1,) and all(p.is_contiguous() for p in copied.parameters())
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(copied.scale * copied(x), module.scale * module(x))
    assert module.scale.shape == () and not module[0].weight.is_contiguous()


def test_an_optimizer_with_its_state_begun_makes_the_steps_of_one_without() -> None:
    ends = []
    for early in (False, True):
        layer = nn.Linear(3, 2)
        nn.init.constant_(layer.weight, 0.5)
        optimizer = torch.optim.AdamW([layer.weight], lr=0.1, fused=True)
        if early:
            begin(optimizer)
        for step in range(3):
            optimizer.zero_grad(set_to_none=True)
            if step:  # no gradient in the first one
                layer.weight.square().sum().backward()
            optimizer.step()
        ends.append(layer.weight.detach())
    assert torch.equal(*ends)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
