"""The command line: what it refuses, and how."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import app
from mindviz import cli, data

ROOT = Path(__file__).parents[2]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The sentence a command is refused with; nothing else may be printed."""
    assert cli.main([str(a) for a in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    assert printed.err.startswith("mindviz: ") and printed.err.count("\n") == 1
    return printed.err


def decode(dataset: Path, out: Path, *more: object, subject: str = "1", scan: int = 3) -> list[object]:
    return ["decode", "--data", dataset, "--subject", subject, "--scan", scan, "--out", out, *more]


def test_help_names_every_command():
    done = subprocess.run(
        [sys.executable, "-m", "mindviz", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(command in done.stdout for command in ("decode", "map ", "verify", "import-checkpoint", "prepare"))


def test_a_missing_dataset_is_named(tmp_path, capsys):
    assert str(tmp_path / "nowhere") in refused(capsys, *decode(tmp_path / "nowhere", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_checkpoint_is_named(tiny_dataset, tmp_path, capsys):
    told = refused(capsys, *decode(tiny_dataset, tmp_path / "out", "--checkpoint", tmp_path / "none"))
    assert str(tmp_path / "none") in told


@pytest.mark.parametrize(
    ("subject", "scan", "expected"), [("9", 3, "found '9'"), ("1", 12, "0 to 11"), ("1", -1, "0 to 11")]
)
def test_a_subject_or_scan_that_does_not_exist(
    tiny_dataset, tiny_checkpoint, tmp_path, capsys, subject, scan, expected
):
    told = refused(capsys, *decode(tiny_dataset, tmp_path / "out", subject=subject, scan=scan))
    assert expected in told
    assert not (tmp_path / "out").exists()


def test_a_run_that_does_not_exist(tiny_dataset, tiny_checkpoint, tmp_path, capsys):
    assert "found 'test9'" in refused(capsys, *decode(tiny_dataset, tmp_path / "out", "--run", "test9"))


def test_a_run_that_the_decoder_was_trained_on_is_no_test(tiny_dataset, tiny_checkpoint, tmp_path, capsys):
    home = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    shutil.copy(home / "subject1" / "test1.safetensors", home / "subject1" / "seg1.safetensors")
    content = json.loads((home / "dataset.json").read_text())
    content["subjects"]["1"] = {"train": ["seg1"], "test": ["test1"]}
    (home / "dataset.json").write_text(json.dumps(content))
    told = refused(capsys, *decode(home, tmp_path / "out", "--checkpoint", tiny_checkpoint, "--run", "seg1", scan=1))
    assert "expected a test run of subject 1 (test1), found 'seg1', a training run" in told


def test_what_an_interruption_leaves_is_told(capsys):
    def interrupted(told: str) -> int:
        raise KeyboardInterrupt(*[told] * bool(told))

    assert [cli.guarded(lambda: interrupted("")), cli.guarded(lambda: interrupted("some is kept"))] == [130, 130]
    assert capsys.readouterr().err == "mindviz: stopped; nothing was written\nmindviz: some is kept\n"


@pytest.mark.parametrize("file", ["unet/model.safetensors", "subject1/data.safetensors", "config.json"])
def test_a_truncated_checkpoint_is_named(tiny_dataset, tiny_checkpoint, tmp_path, capsys, file):
    broken = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, broken)
    content = (broken / file).read_bytes()
    (broken / file).write_bytes(content[: len(content) // 2])
    assert str(broken / file) in refused(capsys, *decode(tiny_dataset, tmp_path / "out", "--checkpoint", broken))


def test_a_truncated_scan_is_named(tiny_dataset, tiny_checkpoint, tmp_path, capsys):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    path = tmp_path / "data" / "subject1" / "test1.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert str(path) in refused(capsys, *decode(tmp_path / "data", tmp_path / "out"))


@pytest.mark.parametrize("option", [("--steps", 0), ("--guidance-scale", "nan"), ("--layer", 7), ("--head", -2)])
def test_settings_that_cannot_be(tiny_dataset, tiny_checkpoint, tmp_path, capsys, option):
    refused(capsys, *decode(tiny_dataset, tmp_path / "out", *option))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_replaced(tiny_dataset, tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in refused(capsys, *decode(tiny_dataset, tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_current_folder_is_refused_before_decoding(tiny_dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = refused(capsys, *decode(tiny_dataset, Path(), "--checkpoint", tmp_path / "none"))
    assert "the current working directory" in told and not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x"])
def test_a_device_that_this_machine_has_not(tiny_dataset, tiny_checkpoint, tmp_path, capsys, device):
    told = refused(capsys, *decode(tiny_dataset, tmp_path / "out", "--device", device))
    assert f"expected a device of this machine (cpu, cuda, mps), found {device}" in told


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (["nothere.dlabel.nii"], "found nothere.dlabel.nii, which is not there"),
        (["."], "found ., which is a folder"),
        (["yeo7", "yeo17"], "the files of one parcellation, found yeo7 yeo17"),
    ],
)
def test_what_is_taken_out_has_to_be_there(tiny_dataset, tiny_checkpoint, tmp_path, capsys, by, told):
    given = ["--data", tiny_dataset, "--subject", 1, "--scan", 0, "--out", tmp_path / "out"]
    assert told in refused(capsys, "lesion", *given, "--by", *by)


def test_verify_refuses_a_folder_without_a_checkpoint(tmp_path, capsys):
    assert str(tmp_path) in refused(capsys, "verify", tmp_path)


def test_import_refuses_a_missing_source(tmp_path, capsys):
    assert str(tmp_path / "none") in refused(capsys, "import-checkpoint", tmp_path / "none", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_prepare_refuses_a_folder_without_subjects(tmp_path, capsys):
    refused(capsys, "prepare", tmp_path / "raw", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_prepare_does_not_replace_its_download(tmp_path, capsys):
    (tmp_path / "subject1" / "fmri").mkdir(parents=True)
    assert "outside the raw download" in refused(capsys, "prepare", tmp_path, tmp_path)
    assert (tmp_path / "subject1" / "fmri").is_dir()


@pytest.mark.parametrize(
    ("label", "arguments", "changes"),
    [
        (None, [], {}),
        (None, ["--name", "Mine", "--allow-constant"], {"name": "Mine", "allow_constant": True}),
        ({"simulated": True, "name": "Made up"}, [], {"name": "Made up", "simulated": True}),
        ({"simulated": True, "name": "Made up"}, ["--name", "Mine"], {"name": "Mine", "simulated": True}),
    ],
)
def test_prepare_knows_its_name_and_what_is_simulated(tmp_path, monkeypatch, label, arguments, changes):
    given = []
    monkeypatch.setattr(data, "prepare", lambda *prepared: given.append(prepared[4]))
    if label:
        (tmp_path / "simulated.json").write_text(json.dumps(label))
    assert cli.main(["prepare", str(tmp_path), str(tmp_path / "target"), *arguments]) == 0
    assert [asdict(options) for options in given] == [asdict(data.PrepareOptions()) | changes]


# ---------------------------------------------------------------------- the app and make
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (PermissionError(13, "Permission denied", "/data/dataset.json"), 2, "/data/dataset.json could not be read"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_the_app_says_what_stops_it_in_one_sentence(monkeypatch, capsys, error, status, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(app.session, "open", fails)
    assert app.main([]) == status
    printed = capsys.readouterr().err
    assert printed.startswith("mindviz: ") and told in printed and printed.count("\n") == 1


@pytest.fixture
def make():
    program = shutil.which("make") or pytest.skip("make is not on this machine")
    return lambda *arguments: subprocess.run(
        [program, "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60
    )


def test_make_clean_keeps_results(make):
    removed = make("-n", "clean").stdout.split()
    assert ".mypy_cache" in removed and "out" not in removed


@pytest.mark.parametrize("existing", [False, True])
def test_make_leaves_no_broken_environment(tmp_path, make, existing):
    """As on a Debian without python3-venv: the interpreter is there, pip is not, and the exit status is 1."""
    python, venv = tmp_path / "python", tmp_path / "venv"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || { mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1; }\n')
    python.chmod(0o755)
    if existing:
        venv.mkdir()
        (venv / "kept").touch()
    done = make(f"PYTHON={python}", f"VENV={venv}", f"{venv}/bin/python")
    assert done.returncode == 2 and "apt install python3-venv" in done.stderr
    assert not (venv / "bin" / "python").exists() and venv.exists() == existing
