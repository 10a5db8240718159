"""The wheel as a user gets it: complete, free of what does not belong, and able to do the main job on its own."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "convert", "quant", "runner", "ui")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git knows, so that nothing lying about gets in or is missed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_symlink() or not (ROOT / name).is_file():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel in it; its dependencies are those of the running one.

    A path file lends the site-packages of the tests. Editable installs in there do not work through it, so
    `nemotron_gguf` can come from the wheel alone.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    Path(own, "lent.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return scripts


def run(scripts: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [scripts / "nemotron", *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=scripts.parent,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
    )


def test_the_wheel_holds_the_rooms_and_the_demo_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    code = [name for name in names if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in code} == {"nemotron_gguf"}
    assert {name.split("/")[1] for name in code} == set(ROOMS)
    assert "nemotron_gguf/models/demo/checkpoint/model.safetensors" in names
    assert not [name for name in names if "/training/" in name or "test" in name]
    for room in ROOMS:
        assert f"nemotron_gguf/{room}/py.typed" in names
        assert f"nemotron_gguf/{room}/__init__.py" in names
    assert wheel.stat().st_size < 20e6


def test_every_import_is_a_declared_dependency() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = {re.split(r"[<>=\[ ]", line)[0].replace("-", "_").lower() for line in declared}
    distributions = metadata.packages_distributions()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if "training" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for top in {(name or "").split(".")[0] for name in names} - {"nemotron_gguf"}:
                    if top not in sys.stdlib_module_names:
                        owners = {owner.replace("-", "_").lower() for owner in distributions[top]}
                        assert owners & wanted, f"{path.relative_to(ROOT)} imports {top}, which is not declared"


def test_it_is_the_wheel_that_runs(installed: Path) -> None:
    code = "import nemotron_gguf.convert as c; print(c.__file__)"
    found = subprocess.run(
        [installed / "python", "-c", code], capture_output=True, text=True, check=True, cwd=installed
    )
    assert str(installed.parent) in found.stdout


def test_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    result = run(installed, "demo", "--out-dir", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert {path.name.rpartition("-")[2] for path in tmp_path.glob("*.gguf")} >= {"Q4_K_M.gguf", "Q8_0.gguf"}
    assert "nemotron build nvidia/" in result.stdout


def test_main_job_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """From the checkpoint to an answer: build, inspect, chat."""
    code = "from nemotron_gguf.models.demo import CHECKPOINT; print(CHECKPOINT)"
    where = subprocess.run(
        [installed / "python", "-c", code], capture_output=True, text=True, check=True, cwd=installed
    )
    built = run(installed, "build", where.stdout.strip(), "--type", "Q8_0", "--out-dir", str(tmp_path), "--json")
    assert built.returncode == 0, built.stderr
    path = json.loads(built.stdout.splitlines()[-1])["files"][0]["path"]
    seen = json.loads(run(installed, "inspect", path, "--json").stdout)
    assert seen["architecture"] == "nemotron_h_moe"
    said = run(installed, "chat", path, "--message", "What is GGUF?", "--no-thinking", "--temperature", "0")
    assert said.returncode == 0, said.stderr
    assert "GGUF" in said.stdout


def test_verbs_that_need_no_llama_cpp_work_without_it(installed: Path, tmp_path: Path) -> None:
    """A llama_cpp that cannot be imported is one sentence, and stops only the verbs that run a model."""
    broken = tmp_path / "broken"
    (broken / "llama_cpp").mkdir(parents=True)
    (broken / "llama_cpp" / "__init__.py").write_text("raise OSError('libcuda.so.1: cannot open shared object file')\n")
    path = {"PYTHONPATH": str(broken)}
    code = "from nemotron_gguf.models.demo import CHECKPOINT; print(CHECKPOINT)"
    where = subprocess.run(
        [installed / "python", "-c", code], capture_output=True, text=True, check=True, cwd=installed
    )
    made = run(installed, "convert", where.stdout.strip(), str(tmp_path / "a.gguf"), **path)
    assert made.returncode == 0, made.stderr
    assert run(installed, "inspect", str(tmp_path / "a.gguf"), **path).returncode == 0
    report = run(installed, "doctor", **path)
    assert report.returncode == 0
    assert "libcuda" in report.stdout
    for verb in (["chat", str(tmp_path / "a.gguf"), "--message", "hi"], ["ui", str(tmp_path / "a.gguf")], ["demo"]):
        refused = run(installed, *verb, **path)
        assert refused.returncode == 1, verb
        assert "libcuda" in refused.stderr
        assert refused.stderr.count("\n") <= 2, refused.stderr
