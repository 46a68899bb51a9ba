"""FSDP under the loop: which of its settings work, and modules and optimizers made ready to be cut into pieces.

Every process keeps a part of each weight, of its gradient and of the optimizer's state, and gathers whole weights only
to compute with them: all at once or, under TRANSFORMER_BASED_WRAP, those of one block at a time (Block in encoders,
BasicTransformerBlock in U-Nets). By itself Accelerate has FSDP on accelerators alone and leaves it out
on CPUs, unsaid; here it runs on both.

DeepSpeed is refused on CPUs, for the same reason. Its version 0.19.8, made by other means to run there on gloo, trained
and resumed with ZeRO 1, 2 and 3; but it compiles code as it starts, unpickles its states, clips by its own settings and
also steps weights that a step did not use, so that losses of co-training are not those of one process.
"""

from __future__ import annotations

import copy
import os

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from mindviz.types import MindvizError

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
WORKS = {
    "version": (("2",), "the first has other weights than the loop's optimizer"),
    "state_dict_type": (("FULL_STATE_DICT",), "a state in pieces would be unpickled when it is read"),
    "auto_wrap_policy": (("NO_WRAP", "TRANSFORMER_BASED_WRAP"), "torch cuts no lists of blocks"),
    "offload_params": (("false",), "batches go to where the weights are kept"),
    "activation_checkpointing": (("false",), "--gradient-checkpointing keeps the randomness of what it recomputes"),
    "ignored_modules": (("none",), "nothing would keep them the same in all processes"),
}
"""Settings of FSDP: which values work here, the first being what is taken where none is given; and why no other."""


def fsdp_plugin(mixed_precision: str, cpu: bool) -> FullyShardedDataParallelPlugin | None:
    """FSDP's settings where the launcher's environment asks for it, with Accelerate ready to follow them; else None.

    Autocast alone lowers the precision, as without FSDP: weights and gradients travel in float32.

    Raises
    ------
    MindvizError
        DeepSpeed on CPUs, FSDP without a launcher (Accelerate would ignore either in silence), or a setting that does
        not work here.
    """
    if cpu and _asked_for("DEEPSPEED"):
        raise MindvizError("DeepSpeed: expected accelerators, found CPUs, where Accelerate trains without it")
    if not _asked_for("FSDP"):
        return None
    for name, (works, why) in WORKS.items():
        found = os.environ.get(f"FSDP_{name.upper()}", works[0])
        if found.lower() not in [value.lower() for value in works]:
            raise MindvizError(f"fsdp_{name}: expected {' or '.join(works)}, as {why}; found {found}")
    os.environ |= {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}  # which Accelerate reads in places
    state = PartialState(cpu=cpu)
    if state.distributed_type == DistributedType.NO:
        raise MindvizError("FSDP: expected processes started by torchrun or accelerate launch, found one by itself")
    state.distributed_type = DistributedType.MULTI_GPU  # what it makes FSDP of, on CPUs or in a second training, too
    return FullyShardedDataParallelPlugin(
        mixed_precision_policy=MixedPrecisionPolicy(output_dtype=None if mixed_precision == "no" else torch.float32),
        cpu_ram_efficient_loading=False,  # every process has the weights to begin with
    )


def _asked_for(what: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() == "true"


def require_same_weights(accelerator: Accelerator, fingerprint: str) -> None:
    """Refuse to cut weights that differ between processes; where each keeps them whole, those of the first are sent.

    Raises
    ------
    MindvizError
        The processes' fingerprints differ.
    """
    own = torch.tensor([int(fingerprint[:12], 16)], device=accelerator.device)
    if len(accelerator.gather(own).unique()) > 1:
        raise MindvizError("FSDP: expected every process to begin with the same weights, found others: seed them")


def shardable(module: nn.Module) -> nn.Module:
    """A copy for FSDP, which cuts along the first axis and in memory's order: scalars become vectors of one element.

    They broadcast alike; other tensors keep their shapes, and all their names.
    """
    taken = copy.deepcopy(module)
    for owner in taken.modules():
        for name, p in list(owner.named_parameters(recurse=False)):
            if p.ndim == 0:
                setattr(owner, name, nn.Parameter(p.detach()[None], p.requires_grad))
            else:
                p.data = p.data.contiguous()
    return taken


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight the state that AdamW would at its first gradient.

    Torch loads no saved state in which a weight is missing, and a weight of co-training may wait long for a gradient.
    """
    for p in (p for group in optimizer.param_groups for p in group["params"]):
        step = torch.zeros((), dtype=torch.float32, device=p.device)
        optimizer.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
