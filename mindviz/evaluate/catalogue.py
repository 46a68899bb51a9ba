"""The methods of a report by name; light to import. `methods` generates their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindviz.types import MindvizError


@dataclass(frozen=True)
class ReportMethod:
    """A way of making clips for the test windows.

    Attributes
    ----------
    slug, name : as given to ``--methods``, and as shown in the rows.
    kind : ``"decoded"``, ``"baseline"`` (no scan, or no encoder), ``"control"`` (expected to be at chance),
        ``"ceiling"``.
    cheap : whether it needs no run of the generator, or is the subject of the report.
    about : what it is, in a phrase.
    """

    slug: str
    name: str
    kind: str
    cheap: bool
    about: str


REPORT_METHODS = (
    ReportMethod("decoded", "decoded", "decoded", True, "the checkpoint on the test scans"),
    ReportMethod("grey", "grey frame", "baseline", True, "mid grey, whatever was watched"),
    ReportMethod(
        "mean", "mean training video", "baseline", True, "the mean of all training clips, whatever was watched"
    ),
    ReportMethod("random", "random training clip", "baseline", True, "a training clip drawn at random for each window"),
    ReportMethod(
        "nearest",
        "nearest training clip",
        "baseline",
        True,
        "the training clip whose captions' tokens are most like the predicted ones (cosine, both centred)",
    ),
    ReportMethod(
        "shuffled", "shuffled scans", "control", True, "the decoded clips, those of whole shots handed to others"
    ),
    ReportMethod("untrained", "untrained encoder", "control", False, "the encoder before any training, same generator"),
    ReportMethod(
        "noise", "noise scans", "control", False, "white noise in place of the scans, same encoder and generator"
    ),
    ReportMethod("vae", "VAE alone", "ceiling", True, "the true clips, encoded and decoded by the checkpoint's VAE"),
    ReportMethod("caption", "true caption", "ceiling", False, "the true caption's tokens into the same generator"),
    ReportMethod(
        "single", "single repeat", "baseline", False, "the checkpoint on one repeat of the run, not on their mean"
    ),
)


def chosen(names: Sequence[str], methods: Sequence[ReportMethod] = REPORT_METHODS) -> tuple[ReportMethod, ...]:
    """The methods named, in the order of `methods`; the cheap ones if `names` is empty; always ``decoded``.

    Raises
    ------
    MindvizError
        For an unknown name.
    """
    known = [m.slug for m in methods]
    unknown = [n for n in names if n not in (*known, "all")]
    if unknown:
        raise MindvizError(f"--methods: expected all, or of {', '.join(known)}, found {', '.join(unknown)}")
    if "all" in names:
        return tuple(methods)
    return tuple(m for m in methods if m.slug == "decoded" or (m.slug in names if names else m.cheap))
