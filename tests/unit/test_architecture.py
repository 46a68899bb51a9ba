"""The rule of imports, the requirements, and the sizes that keep the code readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "app.py", *sorted((ROOT / "mindviz").rglob("*.py")), *sorted((ROOT / "training").rglob("*.py"))]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = {
    contract["containers"][0]: {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    for contract in CONTRACTS
    if contract["type"] == "layers"
}
HOMES = {
    "gradio": {"ui"},
    "plotly": {"plots"},
    "matplotlib": {"plots"},
    "diffusers": {"diffusion", "extensions"},
}


def test_the_import_contracts_are_kept():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_are_exhaustive_and_ignore_nothing():
    layers = [contract for contract in CONTRACTS if contract["type"] == "layers"]
    assert set(LAYERS) == {"mindviz", "training"} and all(contract["exhaustive"] is True for contract in layers)
    assert not any("ignore_imports" in contract for contract in CONTRACTS)
    for package, homes in HOMES.items():
        forbidding = [c for c in CONTRACTS if package in c.get("forbidden_modules", ())]
        bound = {module for contract in forbidding for module in contract["source_modules"]}
        assert {f"mindviz.{layer}" for layer in LAYERS["mindviz"] - homes} | {"training"} <= bound, package


def test_no_files_import_each_other_in_a_circle():
    """Imports inside functions and for type checking count, too."""
    import grimp
    import networkx

    graph = grimp.build_graph("mindviz", "training", exclude_type_checking_imports=False)
    arrows = networkx.DiGraph()
    for module in graph.modules:
        arrows.add_edges_from((module, other) for other in graph.find_modules_directly_imported_by(module))
    circles = [sorted(circle) for circle in networkx.strongly_connected_components(arrows) if len(circle) > 1]
    assert len(arrows) > 150 and circles == []


@pytest.mark.parametrize("command", ["run_decode", "run_map", "run_lesion", "run_attention"])
def test_commands_that_show_no_page_import_none(command):
    tree = ast.parse((ROOT / "mindviz" / "cli.py").read_text(encoding="utf-8"))
    assert command in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    code = f"""
import sys
import mindviz.cli as cli
from mindviz.types import MindvizError
options = cli.parser().parse_args({ARGUMENTS[command]!r})
assert options.run_command is cli.{command}
try:
    cli.{command}(options)
except MindvizError as error:
    assert "/nowhere" in str(error), error
print(sorted(name for name in sys.modules if name == "gradio" or name.startswith("mindviz.ui")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_WHERE = ["--subject", "1", "--out", "/tmp/mindviz-none", "--data", "/nowhere"]
ARGUMENTS = {
    "run_decode": ["decode", *_WHERE, "--scan", "1"],
    "run_map": ["map", *_WHERE, "--scan", "1", "--method", "received"],
    "run_lesion": ["lesion", *_WHERE, "--scan", "1", "--by", "yeo7"],
    "run_attention": ["attention", *_WHERE],
}


def test_importing_the_command_line_is_light():
    """gradio and torch take seconds to import: `python -m mindviz --help` and a refusal must not wait for them."""
    heavy = {"torch", "gradio", "diffusers", "matplotlib", "plotly", "nilearn"}
    code = f"import sys, mindviz.cli, mindviz.ui, mindviz.session; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_third_party_import_is_required():
    listed = {_key(line) for line in _requirements("requirements.txt")}
    provided = metadata.packages_distributions()
    own = {"mindviz", "training", *sys.stdlib_module_names}
    imported = {name for path in SOURCES for name in _imports(path)} - own
    missing = {name for name in imported if not {_key(d) for d in provided.get(name, [name])} & listed}
    assert not missing, "not in requirements.txt"


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_to_ranges_that_hold_here(file):
    from packaging.requirements import Requirement

    for line in _requirements(file):
        requirement = Requirement(line)
        operators = {part.operator for part in requirement.specifier}
        assert operators in ({"=="}, {">=", "<"}), line
        assert metadata.version(requirement.name) in requirement.specifier, line


def test_files_are_under_400_lines_and_functions_under_60():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") < 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_no_two_modules_define_one_public_name():
    """A name has one meaning; each command of its own may have a `main`."""
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in _defined(node):
                homes.setdefault(name, []).append(str(path.relative_to(ROOT)))
    doubled = {n: at for n, at in homes.items() if len(at) > 1 and not n.startswith("_") and n != "main"}
    assert len(homes) > 1000 and doubled == {}


def _defined(node: ast.stmt) -> list[str]:
    """What a statement of a module binds, imports aside."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name.id for name in names if isinstance(name, ast.Name)]


def test_nothing_is_loaded_loosely():
    loose = re.compile(
        r"strict=False\s*\)?\s*#?\s*load|weights_only=False|allow_pickle=True|import \*|NotImplementedError"
    )
    for path in SOURCES:
        found = loose.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path}: {found and found.group()}"


def _requirements(file: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ ]", name)[0]).lower()


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
