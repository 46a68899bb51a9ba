"""The command line: decode, map, lesion, attention, evaluate, verify, import-checkpoint, prepare.

Exit status: 0 done, 1 `verify` found a difference, 2 bad input, said in one sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mindviz.evaluate.arguments import add_options, given_options
from mindviz.types import MindvizError

if TYPE_CHECKING:
    from mindviz.brain import Parcellation
    from mindviz.types import SamplingSettings

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see the module for the exit status."""
    options = parser().parse_args(argv)
    return guarded(lambda: options.run_command(options))


def guarded(command: Callable[[], int]) -> int:
    """Run a command and give its exit status; what does not fit, and an interruption, is one sentence on stderr."""
    try:
        return int(command())
    except MindvizError as error:
        print(f"mindviz: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"mindviz: {error.filename or 'a file'} could not be read or written: {error.strerror or error}",
            file=sys.stderr,
        )
    except KeyboardInterrupt as stop:
        print(f"mindviz: {str(stop) or 'stopped; nothing was written'}", file=sys.stderr)
        return 130
    return 2


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="python -m mindviz", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _decode_options(commands.add_parser("decode", help="decode one scan into videos, cortex maps and a record"))
    _map_options(
        commands.add_parser("map", help="the map of a scan, or the mean map of a run, by any method, as files")
    )
    _lesion_options(
        commands.add_parser(
            "lesion", help="what a scan's decoding loses with each network, area or patch: table, films"
        )
    )
    _attention_options(commands.add_parser("attention", help="attention by layer and stage of training, one figure"))
    evaluation = commands.add_parser("evaluate", help="decode a test run and report how much of the film is in it")
    add_options(evaluation)
    evaluation.set_defaults(run_command=run_evaluation)
    _verify_options(commands.add_parser("verify", help="compare a published checkpoint's tensors with ours"))
    _import_options(commands.add_parser("import-checkpoint", help="turn a published checkpoint into ours"))
    _prepare_options(commands.add_parser("prepare", help="prepare a download in the layout of Wen 2018"))
    return top


def _where_options(command: argparse.ArgumentParser) -> None:
    """The options of every command that reads a dataset's scans with a checkpoint."""
    command.add_argument("--subject", required=True, help="as named in the dataset: 1")
    command.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="a new or empty folder, or one with an earlier result of this command alone, which is replaced",
    )
    command.add_argument("--data", type=Path, default=DEMO, help="a prepared dataset (default: the demo)")
    command.add_argument("--checkpoint", type=Path, help="default: checkpoint/ inside the dataset's folder")
    command.add_argument("--device", default="cpu", help="as torch calls it: cpu (default), cuda, cuda:1, mps")


def _sampling_options(command: argparse.ArgumentParser) -> None:
    """One scan, and how it is decoded; the checkpoint's own settings where nothing is said (`_settings`)."""
    command.add_argument(
        "--scan", required=True, type=int, help="counted from 0; scan k shows film seconds 2k to 2k + 2"
    )
    command.add_argument("--run", help="a test run of the subject (default: its first)")
    command.add_argument("--seed", type=int)
    command.add_argument("--steps", type=int, help="denoising steps")
    command.add_argument("--guidance-scale", type=float)
    command.add_argument(
        "--negative",
        choices=("training", "run"),
        help="guidance leads away from the mean scan of the training set or, as published, of the run (default: the "
        "checkpoint's own)",
    )


def _decode_options(command: argparse.ArgumentParser) -> None:
    _where_options(command)
    _sampling_options(command)
    command.add_argument(
        "--layer",
        type=int,
        default=-1,
        help="of the attention map; 0 is layer 1 of page and files, the read-out comes last (default: their mean)",
    )
    command.add_argument("--head", type=int, default=-1, help="head of the attention map, from 0 (default: their mean)")
    command.set_defaults(run_command=run_decode)


def _map_options(command: argparse.ArgumentParser) -> None:
    _where_options(command)
    command.add_argument("--scan", type=int, help="counted from 0 (default: the mean over all scans of --run)")
    command.add_argument("--run", help="a run of the subject (default with --scan or --each: its first test run)")
    command.add_argument("--each", action="store_true", help="the map of each scan of the run instead of their mean")
    command.add_argument(
        "--method",
        required=True,
        help="received, rollout, gradient_attention, integrated_gradients, gradient_pattern, lesion_patch, lesion_area "
        "or pattern",
    )
    command.add_argument("--control", default="", help="untrained, shuffled or uniform, whose map is taken off")
    command.add_argument(
        "--layer",
        type=int,
        default=-1,
        help="of received; 0 is layer 1 of page and files, the read-out comes last (default: their mean)",
    )
    command.add_argument("--head", type=int, default=-1, help="of received, from 0 (default: their mean)")
    command.add_argument("--question", metavar="NAME", help="of received: a question of the read-out, such as object")
    command.add_argument(
        "--position", type=int, default=-1, help="one scan of the window, from 0 (default: all of them)"
    )
    command.add_argument(
        "--by",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="of lesion_area: a parcellation in place of HCP-MMP, a .dlabel.nii or the .label.gii or .annot files of "
        "the hemispheres",
    )
    command.set_defaults(run_command=run_map)


def _lesion_options(command: argparse.ArgumentParser) -> None:
    _where_options(command)
    _sampling_options(command)
    command.add_argument(
        "--by",
        required=True,
        nargs="+",
        metavar="BY",
        help="taken out one by one: yeo7, yeo17, hcp-mmp, patch, or a parcellation of your own (a .dlabel.nii, or "
        "the .label.gii or .annot files of the hemispheres)",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--top", type=int, default=3, help="how many of them are decoded: those that move tokens most")
    which.add_argument("--parcels", nargs="+", default=[], metavar="NAME", help="decode these: Visual, L_V1, 'patch 7'")
    command.set_defaults(run_command=run_lesion)


def _attention_options(command: argparse.ArgumentParser) -> None:
    _where_options(command)
    command.add_argument("--run", help="a test run of the subject (default: its first)")
    command.add_argument("--parcellation", default="yeo7", help="of the bars: yeo7 (default), yeo17 or hcp-mmp")
    command.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    command.set_defaults(run_command=run_attention)


def _verify_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="holds checkpoint/, tensors.safetensors and sampling.json")
    command.set_defaults(run_command=run_verification)


def _import_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, help="the published checkpoint folder itself")
    command.add_argument("target", type=Path, help="where ours goes")
    command.set_defaults(run_command=run_import)


def _prepare_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("raw", type=Path, help="holds subject1/fmri/…, stimuli/…")
    command.add_argument("target", type=Path, help="where the prepared dataset goes")
    command.add_argument("--subjects", nargs="+", help="default: all that are there")
    command.add_argument("--runs", nargs="+", help="seg1 … test5 (default: all that are there)")
    command.add_argument(
        "--name", help="of the dataset (default: Wen 2018, or as the raw folder's simulated.json says)"
    )
    command.add_argument(
        "--allow-constant",
        action="store_true",
        help="leave out vertices that never change in a run, or hold nothing but NaN; refused otherwise",
    )
    command.set_defaults(run_command=run_preparation)


def run_decode(options: argparse.Namespace) -> int:
    """Decode one scan and write everything that is known of it."""
    from tqdm import tqdm

    from mindviz import session
    from mindviz.session import export

    export.check_target(options.out)
    workspace = session.open(options.data, options.checkpoint, options.device)
    run = workspace.dataset.test_run(options.subject, options.run)
    workspace.check_layer_and_head(options.subject, options.layer, options.head)
    settings = _settings(options, workspace.decoder.default_settings)
    with tqdm(total=settings.num_inference_steps, unit="step", disable=not sys.stderr.isatty()) as bar:
        decoded = workspace.decode(options.subject, run, options.scan, settings, lambda *_: bar.update())
    print(export.export(workspace, decoded, options.out, options.layer, options.head))
    return 0


def run_map(options: argparse.Namespace) -> int:
    """Write the map of a scan, the mean map of a run, or (--each) the maps of all its scans."""
    from mindviz import session
    from mindviz.brain import load_parcellation
    from mindviz.session import export, map_choice, map_export, map_names, run_maps, scan_maps
    from mindviz.session.scans import Scans

    if options.scan is None and options.run is None and not options.each:
        raise MindvizError("expected --scan N, --run R (the mean over the run) or both, found neither")
    export.check_target(options.out, scan_maps.ALL_EACH_FILES if options.each else map_export.ALL_MAP_FILES)
    by = load_parcellation(*options.by) if options.by else None
    asked = (options.method, options.layer, options.head, options.control)
    choice = map_choice.choose(*asked, position=options.position, parcels=by)
    if (choice.layer, choice.head, choice.position) != (options.layer, options.head, options.position):
        raise MindvizError(f"{choice.title} has no --layer and --head, or no --position, to choose")
    workspace = session.open(options.data, options.checkpoint, options.device)
    if options.question is not None:
        choice = map_names.of_question(workspace, options.subject, choice, options.question)
    run = options.run or workspace.runs(options.subject)[0]
    scans = Scans(options.subject, run, options.scan)
    with _phases() as shown:
        save = scan_maps.save_each if options.each else run_maps.save_map
        print(save(workspace, scans, choice, options.out, shown))
    return 0


def run_lesion(options: argparse.Namespace) -> int:
    """Take out every network, area or patch of a scan, and decode what is left without some of them."""
    from mindviz import session
    from mindviz.attribution.lesion import GROUPINGS
    from mindviz.session import export, lesion_files
    from mindviz.session.scans import Scans

    export.check_target(options.out, lesion_files.LESION_FILES)
    by = options.by[0] if len(options.by) == 1 and options.by[0] in GROUPINGS else _parcellation(options.by)
    workspace = session.open(options.data, options.checkpoint, options.device)
    run = workspace.dataset.test_run(options.subject, options.run)
    settings = _settings(options, workspace.decoder.default_settings)
    scan = Scans(options.subject, run, options.scan)
    asked = (by, options.out, options.parcels, options.top, settings)
    with _phases() as shown:
        print(lesion_files.save_lesions(workspace, scan, *asked, shown))
    return 0


def _parcellation(paths: Sequence[str]) -> Parcellation:
    from mindviz.attribution.lesion import GROUPINGS
    from mindviz.brain import load_parcellation

    known = f"one of {', '.join(GROUPINGS)} or the files of one parcellation"
    if any(path in GROUPINGS for path in paths):
        raise MindvizError(f"--by: expected {known}, found {' '.join(paths)}")
    for path in map(Path, paths):
        if not path.is_file():
            raise MindvizError(
                f"--by: expected {known}, found {path}, which is {'a folder' if path.exists() else 'not there'}"
            )
    return load_parcellation(*paths)


def _settings(options: argparse.Namespace, defaults: SamplingSettings) -> SamplingSettings:
    """The checkpoint's settings, less what the options of `_sampling_options` say otherwise."""
    given = {
        "seed": options.seed,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "negative": "given" if options.negative == "run" else options.negative,
    }
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})


@contextmanager
def _phases() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """One bar for what is computed one after the other: given its name, what is called with (done, total)."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=not sys.stderr.isatty()) as bar:

        def shown(what: str) -> Callable[[int, int], None]:
            bar.reset()
            bar.set_description(what, refresh=False)

            def progress(done: int, total: int) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            return progress

        yield shown


def run_attention(options: argparse.Namespace) -> int:
    """Draw attention by layer and stage (the paper's Figure 7)."""
    from tqdm import tqdm

    from mindviz import session
    from mindviz.attribution import stages

    stages.require_new_or_empty(options.out)
    workspace = session.open(options.data, options.checkpoint, options.device)
    run = workspace.dataset.test_run(options.subject, options.run)
    what = (workspace.decoder, workspace.dataset, options.subject, run)
    with tqdm(unit="map", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        found = stages.stage_maps(*what, options.parcellation, options.seed, progress)
    print(stages.write_stages(found, *what, options.out, options.parcellation, options.seed))
    return 0


def run_evaluation(options: argparse.Namespace) -> int:
    """Write the report of a test run; what the decoded clips score goes to stdout."""
    from mindviz.evaluate import report

    try:
        found = report.evaluate(given_options(options))
    except KeyboardInterrupt:
        held = any(options.out.glob("*.safetensors"))
        kept = f"stopped; the same command goes on from the clips that {options.out} holds"
        raise KeyboardInterrupt(kept if held else "") from None
    print(report.headline(found))
    print(options.out / "report.html")
    return 0


def run_verification(options: argparse.Namespace) -> int:
    """Print each tensor's largest error; 1 where one is above the tolerance."""
    from mindviz import verify as parity

    comparisons = parity.verify(options.folder)
    print(parity.report(comparisons))
    return 0 if parity.passed(comparisons) else 1


def run_import(options: argparse.Namespace) -> int:
    """Turn a published checkpoint into ours."""
    from mindviz import verify as parity

    parity.import_checkpoint(options.source, options.target)
    print(options.target)
    return 0


def run_preparation(options: argparse.Namespace) -> int:
    """Prepare a raw download."""
    from tqdm import tqdm

    from mindviz import data
    from mindviz.data import wen2018

    named = wen2018.read_label(options.raw) | ({"name": options.name} if options.name else {})
    chosen = data.PrepareOptions(**named, allow_constant=options.allow_constant)
    with tqdm(unit="file", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int, what: object) -> None:
            bar.total = total
            bar.set_description(str(what), refresh=False)
            bar.update(done - bar.n)

        print(data.prepare(options.raw, options.target, options.subjects, options.runs, chosen, progress))
    return 0
