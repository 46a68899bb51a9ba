"""`python -m mindviz evaluate`: the report without a judge, on the tiny dataset, from the command line."""

import json

import pytest

from mindviz import cli
from mindviz.metrics import classifiers
from mindviz.storage import load_arrays


@pytest.fixture
def small_classifier(monkeypatch):
    monkeypatch.setattr(classifiers.efficientnet, "__defaults__", (32, 32))


def arguments(dataset, out, *more):
    given = {"checkpoint": dataset / "checkpoint", "data": dataset, "out": out, "subject": "1", "permutations": 9}
    return ["evaluate", *(f"--{name}={value}" for name, value in given.items()), *map(str, more)]


@pytest.mark.slow
def test_a_report_without_judge_or_training_films(tiny_dataset, tiny_checkpoint, tmp_path, capsys, small_classifier):
    out = tmp_path / "out"
    chosen = ("--limit=6", "--steps=1", "--methods", "all")
    assert cli.main(arguments(tiny_dataset, out, *chosen)) == 0
    printed = capsys.readouterr().out
    assert "SSIM (uniform window)" in printed and str(out / "report.html") in printed
    report = json.loads((out / "report.json").read_text())
    made = {r["method"] for r in report["rows"]}
    assert {"decoded", "grey frame", "VAE alone", "noise scans", "untrained encoder"} <= made
    assert "left out: mean training video, needs the training films" in printed and "judged by formula" in printed
    missing = {m["slug"]: m["missing"] for m in report["methods"]}
    assert "--training-data" in missing["mean"] and "CLIP" in missing["caption"] and missing["vae"] is None
    metrics = {r["score"]["metric"] for r in report["rows"]}
    assert {"frame, 2-way top-1, paper's rule", "frame, 50-way top-1, paper's rule", "PSNR (dB)"} <= metrics
    assert "no truth is planted" in report["maps against the planted truth"]["missing"]
    for page in ("report.html", "report.md"):
        assert "Maps: no truth is planted" in (out / page).read_text() and "AUROC" not in (out / page).read_text()
    assert "Simulated" in (out / "report.html").read_text() and "left out" in (out / "report.md").read_text()
    kept = load_arrays(out / "noise.safetensors")["clips"]
    assert kept.shape == (6, 6, 64, 64, 3) and (kept != load_arrays(out / "decoded.safetensors")["clips"]).any()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--subject=9"], "'9'"),
        (["--methods", "magic"], "found magic"),
        (["--training-data", "nowhere"], "nowhere"),
        (["--limit=13"], "1 to 12"),
        (["--limit=2"], "at least two shots, found 2 clips of one (--limit)"),
        (["--methods", "grey", "random"], "--methods random: needs the training films (--training-data), found none"),
        (["--vit", "nowhere"], "nowhere"),
        (["--name-sketch"], "expected a namer"),
    ],
)
def test_bad_options_are_refused_with_a_one_line_message(tiny_dataset, tiny_checkpoint, tmp_path, capsys, more, told):
    assert cli.main(arguments(tiny_dataset, tmp_path / "out", *more)) == 2
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_unrelated_files_are_left_alone(tiny_dataset, tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli.main(arguments(tiny_dataset, tmp_path / "out")) == 2
    assert "or one with a report, found other files (notes.txt)" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["notes.txt"]
    assert cli.main(arguments(tiny_dataset, tmp_path / "out" / "notes.txt" / "sub")) == 2
    assert "notes.txt, which is a file" in capsys.readouterr().err


def test_an_interruption_reports_what_can_be_resumed(tiny_dataset, tiny_checkpoint, tmp_path, capsys, monkeypatch):
    from mindviz.evaluate import report

    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "evaluate", stopped)
    out = tmp_path / "out"
    assert cli.main(arguments(tiny_dataset, out)) == 130
    assert "nothing was written" in capsys.readouterr().err
    out.mkdir()
    (out / "decoded.safetensors").write_bytes(b"")
    assert cli.main(arguments(tiny_dataset, out)) == 130
    assert f"goes on from the clips that {out} holds" in capsys.readouterr().err
