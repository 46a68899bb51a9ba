"""Batches: shared out equally, moved to a device, refused where they do not divide."""

from __future__ import annotations

import pytest
import torch

from mindviz.types import MindvizError
from training.engine.batch import Batch, share


def test_parts_are_equal_follow_each_other_and_share_the_rest() -> None:
    batch = Batch({"x": torch.arange(12).view(6, 2), "y": torch.arange(6)}, {"who": "1", "negative": torch.ones(3)})
    parts = [batch.part(i, 3, "cpu") for i in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])
    assert all(part["who"] == "1" and torch.equal(part["negative"], torch.ones(3)) for part in parts)
    assert [share(6, i, 3) for i in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]


def test_a_part_lies_on_its_device() -> None:
    part = Batch({"x": torch.zeros(4, 3)}, {"negative": torch.zeros(2), "whole": True}).part(1, 2, "meta")
    assert part["x"].device.type == part["negative"].device.type == "meta"
    assert part["x"].shape == (2, 3) and part["whole"] is True


def test_samples_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(MindvizError, match="expected a multiple of 4 samples to share out, found 6"):
        Batch({"x": torch.zeros(6)}).part(0, 4, "cpu")


@pytest.mark.parametrize(
    ("samples", "shared"),
    [({"x": torch.zeros(3), "y": torch.zeros(2)}, {}), ({"x": torch.zeros(3)}, {"x": 1}), ({}, {})],
)
def test_tensors_of_other_lengths_or_one_name_are_refused(samples: dict, shared: dict) -> None:
    with pytest.raises(MindvizError, match="expected tensors of one length under names of their own"):
        Batch(samples, shared)
