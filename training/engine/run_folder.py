"""The folder of a training: run.json says what it is, ``state`` how far it came. Neither is ever left half-written.

The state is written aside, to ``state.new``, and then renamed; a kill or a full disk leaves the one before usable, as
``state`` or, for a moment between two renames, as ``state.old``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.constants import FSDP_MODEL_NAME
from safetensors import SafetensorError
from torch import nn

from mindviz.storage import atomic_file, read_json
from mindviz.types import MindvizError


def weights_fingerprint(module: nn.Module) -> str:
    """sha256 of a module's state: names, types, shapes and every byte."""
    digest = sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def claim(folder: Path, run: Mapping[str, Any], defaults: Mapping[str, Any], initial: str, write: bool = True) -> None:
    """Write what a run is into its folder, or refuse a folder that another run began.

    Parameters
    ----------
    run : what must agree, JSON-able; ``run["loop"]`` is the loop's configuration.
    defaults : of the loop's configuration. A folder begun before a field existed counts as begun with its default.
    initial : fingerprint of the weights that the run begins with. Folders of older versions do not record theirs.

    Raises
    ------
    MindvizError
        Naming run.json and the first thing that differs, or the folder to remove where only the weights do.
    """
    path = folder / "run.json"
    mine = json.loads(json.dumps({**run, "loop": {**defaults, **run["loop"]}}))
    if path.exists():
        theirs = read_json(path)
        begun_with = theirs.pop("initial", initial)
        theirs["loop"] = {**defaults, **theirs.get("loop", {})}
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        if differing:
            k = differing[0]
            raise MindvizError(f"{path} was begun with {k} = {theirs.get(k)}, this run has {k} = {mine.get(k)}")
        if begun_with != initial:
            raise MindvizError(
                f"{path} was begun from other weights: expected initial = {begun_with[:16]}…, found {initial[:16]}…; a "
                f"stage before it was trained again since, so remove {folder} to train this one again too"
            )
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as aside:
            Path(aside).write_text(json.dumps({**mine, "initial": initial}, indent=1))


def save_training_state(accelerator: Accelerator, folder: Path) -> None:
    """Save the whole state aside, then put it in the old one's place.

    Raises
    ------
    MindvizError
        The state could not be written; the one before it is as it was.
    """
    new, state, old = folder / "state.new", folder / "state", folder / "state.old"
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(new))
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        shutil.rmtree(new, ignore_errors=True)
        kept = f"the state before it, in {state}, is whole" if state.exists() else "there is none before it"
        raise MindvizError(f"{new}: expected to write the training's state, found: {error}; {kept}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if state.exists():
            shutil.rmtree(old, ignore_errors=True)
            state.rename(old)
        new.rename(state)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def load_training_state(accelerator: Accelerator, folder: Path) -> None:
    """Load the last whole state, if there is one.

    Raises
    ------
    MindvizError
        The state is of a run under FSDP and this one is not, or the other way round.
    """
    state, old = folder / "state", folder / "state.old"
    if accelerator.is_main_process and old.exists() and not state.exists():
        old.rename(state)  # a kill fell between the two renames: the next save must not clear it away
    accelerator.wait_for_everyone()
    if state.exists():
        fsdp = accelerator.distributed_type == DistributedType.FSDP
        if (state / f"{FSDP_MODEL_NAME}.bin").exists() != fsdp:
            how = ("under FSDP", "without it") if fsdp else ("without FSDP", "under it")
            raise MindvizError(f"{state}: expected the state of a run {how[0]}, found one {how[1]}")
        accelerator.load_state(str(state))
