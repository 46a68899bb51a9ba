"""The methods of attribution by name: what their numbers mean, and what their maps do not say."""

from __future__ import annotations

from dataclasses import dataclass

from mindviz.decoder import Decoder

CONTROLS = ("untrained", "shuffled", "uniform")


@dataclass(frozen=True)
class Method:
    """How a method is called, what its numbers mean, and what it can be asked for.

    `by_layer`: a layer and head. `by_position`: one scan of the window. `of_run`: it looks at all scans of the run that
    a window belongs to, so the explainer must have them.
    """

    name: str
    units: str
    caution: str
    by_layer: bool = False
    by_position: bool = True
    of_run: bool = False


_LOOKED = (
    "Attention is not importance: it tells which patches of cortex the encoder mixed, "
    "not which ones the video depends on."
)


_DEPENDS = (
    "What the decoding of this scan depends on. That is not only what tells of the film: a decoder also listens to "
    "voxels that share nothing but noise with those, to take it away."
)


METHODS: dict[str, Method] = {
    "received": Method("Attention received", "1 = every patch alike", _LOOKED, by_layer=True),
    "rollout": Method("Attention rollout", "1 = every patch alike", _LOOKED),
    "gradient_attention": Method("Attention weighted by its gradient", "1 = mean over patches", _LOOKED),
    "integrated_gradients": Method(
        "Integrated gradients", "share of the tokens' distance from the mean scan's", _DEPENDS
    ),
    "gradient_pattern": Method(
        "Gradients turned by the scans' covariance",
        "share of the voxel's variance",
        "Which activity goes, over this run, with what the encoder reads near this scan: its gradients there, turned "
        "by the covariance of the run's scans, without labels. It tells of the encoder more than of the scan: maps of "
        "one run are much alike. Voxels that tell nothing stay above 0: compare them with others.",
        of_run=True,
    ),
    "lesion_patch": Method(
        "Lesion of a patch", "how far the tokens move; 1 = to the mean scan's", _DEPENDS, by_position=False
    ),
    "lesion_area": Method(
        "Lesion of an area (HCP-MMP)", "how far the tokens move; 1 = to the mean scan's", _DEPENDS, by_position=False
    ),
    "pattern": Method(
        "Activation pattern",
        "share of the voxel's variance",
        "Where activity goes with what is decoded, over all training scans of the subject: the same for every scan.",
    ),
}


def caution(decoder: Decoder, method: str) -> str:
    """What a map does not say; of attention also how much this model's decoding depends on where it looks."""
    said, choices = METHODS[method].caution, decoder.info.provenance.get("attention_choice", {}).values()
    if not choices or method != "received":
        return said
    return (
        f"{said} All that is decoded here passes through the attention of its questions; "
        f"were it uniform, {min(choices):.0%} to {max(choices):.0%} of what tells scans apart would change."
    )
