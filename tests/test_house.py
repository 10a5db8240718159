"""The house stands as drawn: which room imports which, what ships, what the rooms offer, what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "convert", "quant", "runner", "ui")
MAY_IMPORT = {
    "models": set(),
    "convert": {"models"},
    "quant": {"models", "convert"},
    "runner": {"models"},
    "ui": {"models", "convert", "quant", "runner"},
}
NOT_SHIPPED = {"models/demo/training"}
HEAVY = {"torch", "gradio", "llama_cpp", "transformers", "huggingface_hub", "tokenizers", "safetensors"} | {
    *("mcp", "httpx2", "pypdf", "docx", "jsonschema", "charset_normalizer")
}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert sources(room)
    for path in sources(room):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "nemotron_gguf":
                assert parts[1] == room or parts[1] in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_heavy_packages_are_not_imported_at_the_top(room: str) -> None:
    for path in sources(room):
        if path.relative_to(ROOT).as_posix().startswith(tuple(NOT_SHIPPED)):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not HEAVY & {name.split(".")[0] for name in names}, f"{path.relative_to(ROOT)}: {names}"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom nemotron_gguf.ui.cli import app\n"
        "try: app(['build', '--help'])\nexcept SystemExit: pass\n"
        f"print('HEAVY', sorted({HEAVY | {'numpy', 'gguf'}!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert "HEAVY []" in result.stdout


def test_every_package_ships_and_nothing_else() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {
        path.parent.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "__pycache__" not in path.parts
    } - NOT_SHIPPED
    assert {name.removeprefix("nemotron_gguf.").replace(".", "/") for name in declared["packages"]} == found
    for package, names in declared["package-data"].items():
        folder = ROOT / package.removeprefix("nemotron_gguf.").replace(".", "/")
        for name in names:
            assert (folder / name).is_file(), f"{package}: {name} is declared and not there"
            assert "*" not in name, "package data is named file by file"


@pytest.mark.parametrize("room", ROOMS)
def test_front_doors_offer_what_they_name(room: str) -> None:
    import importlib

    module = importlib.import_module(f"nemotron_gguf.{room}")
    names = getattr(module, "__all__", [])
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)), "ruff's order"
    for name in names:
        offered = getattr(module, name)
        if isinstance(offered, type | types.FunctionType):
            assert offered.__doc__, f"{room}.{name} has no docstring"


def test_sizes_stay_readable() -> None:
    for room in ROOMS:
        for path in sources(room):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 330, f"{path.relative_to(ROOT)} has two subjects"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    assert length <= 60, f"{path.relative_to(ROOT)}: {node.name} has {length} lines"


def test_no_merge_was_left_half_done() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    assert len(texts) > 5
    for path in texts:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.startswith(("<<<<<<<", ">>>>>>>")), f"{path.name}: {line}"
