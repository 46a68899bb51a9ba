"""README and docs: short enough, every link leads somewhere, every name is where they say, every command is one."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mindviz import cli
from training import stage

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = [ROOT / "docs" / name for name in ("paper-in-code.md", "beyond-the-paper.md")]


def commands() -> list[str]:
    """Every line of every ``sh`` block, without its comment."""
    blocks = [b for page in PAGES for b in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    lines = [re.sub(r"\s#\s.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line})


def names_of(path: Path) -> set[str]:
    """Functions, classes, methods, fields and constants of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assigned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return defined | assigned


def test_the_readme_is_short_and_its_moving_picture_small():
    assert (ROOT / "README.md").stat().st_size <= 9000
    assert (ROOT / "assets" / "tour.webp").stat().st_size <= 2_000_000
    with Image.open(ROOT / "assets" / "tour.webp") as picture:
        assert picture.n_frames > 24


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()]
    assert missing == []


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"]({page.relative_to(ROOT)})" not in text] == []


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.name)
def test_every_name_is_where_the_table_says(page):
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "`" in line]
    pairs = [re.search(r"`((?:mindviz|training)/[\w/]+\.py)`[ |]+`(\w+)`", row) for row in rows]
    assert len(pairs) > 10 and all(pairs), [row for row, pair in zip(rows, pairs, strict=True) if not pair]
    wrong = [p.group(1, 2) for p in pairs if p and p.group(2) not in names_of(ROOT / p.group(1))]
    assert wrong == []


def test_folders_of_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:mindviz|training|assets|tests)/[\w/.]*)`", text)
    assert len(paths) > 15 and [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one(line):
    """Parsed, not run: training takes hours, and SD, CLIP or DATASET stand for what a reader has."""
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return
    assert words[0] == "python", line
    if words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
        return
    assert words[1] == "-m", line
    module, arguments = words[2], words[3:]
    assert importlib.util.find_spec(module) is not None
    if module == "mindviz":
        assert cli.parser().parse_args(arguments).run_command
    elif module == "training.stage":
        assert stage.read_order(arguments).stage == arguments[0]
    else:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        options = [word for word in arguments if word.startswith("--")]
        assert done.returncode == 0 and [option for option in options if option not in done.stdout] == []


@pytest.mark.slow
@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("python -m mindviz ") and "--" in c])
def test_commands_on_the_demo_run(line, tmp_path):
    words = shlex.split(line)
    words[words.index("--out") + 1] = str(tmp_path / "out")
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("old", ["evaluate", "ablate", "guidance", "judge", "world"])
def test_old_addresses_say_the_new_ones(old):
    done = subprocess.run([sys.executable, "-m", f"training.{old}"], cwd=ROOT, capture_output=True, text=True)
    new = done.stderr.strip().rpartition("python -m ")[2]
    assert done.returncode == 1 and importlib.util.find_spec(new) is not None, done.stderr
