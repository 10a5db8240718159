"""How llama.cpp's build is chosen, and that each choice is built once and no more."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from nemotron_gguf.runner import build_llama
from nemotron_gguf.runner.build_llama import Choice, choose


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CMAKE_ARGS", "CC", "CXX", "CUDACXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEMOTRON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


def tool(folder: Path, name: str, status: int = 0) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!{sys.executable}\nprint('release 13.0'); raise SystemExit({status})\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_cpu_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    choice = choose()
    assert (choice.backend, choice.cmake_args) == ("CPU", "-DGGML_RPC=on")


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are scripts with a first line that Windows does not read")
@pytest.mark.parametrize(
    ("smi", "nvcc", "backend"), [(0, 0, "CUDA"), (1, 0, "CPU"), (0, 1, "CPU"), (0, None, "CPU"), (None, 0, "CPU")]
)
def test_cuda_where_driver_and_compiler_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smi: int | None, nvcc: int | None, backend: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name, status in (("nvidia-smi", smi), ("nvcc", nvcc)):
        if status is not None:
            tool(tmp_path, name, status)
    choice = choose()
    assert choice.backend == backend
    assert ("-DGGML_CUDA=on" in choice.cmake_args) == (backend == "CUDA")
    assert "-DGGML_RPC=on" in choice.cmake_args
    assert ("install the CUDA toolkit" in choice.reason) == (smi == 0 and nvcc != 0)


def test_metal_on_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert choose().cmake_args == "-DGGML_METAL=on -DGGML_RPC=on"


@pytest.mark.parametrize(
    ("given", "args", "backend"),
    [
        ("-DGGML_VULKAN=on", "-DGGML_VULKAN=on -DGGML_RPC=on", "Vulkan"),
        ("-DGGML_CUDA=on -DGGML_RPC=off", "-DGGML_CUDA=on -DGGML_RPC=off", "CUDA"),
        ("-DGGML_NATIVE=off", "-DGGML_NATIVE=off -DGGML_RPC=on", "CPU"),
        ("-DGGML_CUDA:BOOL=ON", "-DGGML_CUDA:BOOL=ON -DGGML_RPC=on", "CUDA"),
        ("-D GGML_CUDA=on", "-D GGML_CUDA=on -DGGML_RPC=on", "CUDA"),
        ("-DGGML_CUDA=yes", "-DGGML_CUDA=yes -DGGML_RPC=on", "CUDA"),
        ("-DGGML_CUDA=on -DGGML_CUDA=off", "-DGGML_CUDA=on -DGGML_CUDA=off -DGGML_RPC=on", "CPU"),
    ],
)
def test_the_users_choice_wins(monkeypatch: pytest.MonkeyPatch, given: str, args: str, backend: str) -> None:
    monkeypatch.setenv("CMAKE_ARGS", given)
    choice = choose()
    assert (choice.cmake_args, choice.backend, choice.reason) == (args, backend, "CMAKE_ARGS is set")


def test_another_choice_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = choose()
    assert choose().key == plain.key
    keys = {plain.key}
    for variable, value in (("CMAKE_ARGS", "-DGGML_CUDA=on"), ("CMAKE_ARGS", "-DGGML_CUDA=off"), ("CC", "clang")):
        monkeypatch.setenv(variable, value)
        keys.add(choose().key)
    assert len(keys) == 4


def test_built_once_for_each_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The long build runs only where no wheel of this very choice is kept; switching back costs an installation."""
    built: list[str] = []
    installed: list[str] = []

    def fake_build(command: list[str], env: dict[str, str], log: Path) -> int:
        assert "--no-cache-dir" in command, "pip's own cache knows nothing of CMAKE_ARGS"
        folder = Path(command[command.index("--wheel-dir") + 1])
        (folder / "llama_cpp_python-0.3.36-py3-none-any.whl").write_text(env["CMAKE_ARGS"])
        log.write_text("built")
        built.append(env["CMAKE_ARGS"])
        return 0

    def fake_pip(*arguments: str) -> None:
        installed.append(Path(arguments[-1]).read_text())

    monkeypatch.setattr(build_llama, "_follow", fake_build)
    monkeypatch.setattr(build_llama, "_pip", fake_pip)
    monkeypatch.setattr(build_llama, "_need_compiler", lambda: None)
    monkeypatch.setattr(build_llama, "_stamp", lambda: tmp_path / "stamp.json")
    monkeypatch.setattr("importlib.metadata.version", lambda _: build_llama.VERSION)
    for args in ("", "", "-DGGML_CUDA=on", "-DGGML_CUDA=on", ""):
        monkeypatch.setenv("CMAKE_ARGS", args)
        build_llama.ensure(choose())
    assert built == ["-DGGML_RPC=on", "-DGGML_CUDA=on -DGGML_RPC=on"]
    assert list(dict.fromkeys(installed)) == built, "each was installed"
    assert installed[-1] == "-DGGML_RPC=on", "and the first one again at the end"
    said = capsys.readouterr().out
    assert said.index("Building llama.cpp for CPU") < said.index("Building llama.cpp for CUDA")
    assert "minutes on" in said
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_build_that_was_replaced_or_lost_files_is_not_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lib = tmp_path / "llama_cpp" / "lib"
    lib.mkdir(parents=True)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", lambda _: build_llama.VERSION)
    monkeypatch.setattr(build_llama, "_pip", lambda *_: lib.joinpath("libllama.so").write_bytes(b"ours"))
    choice = choose()
    folder = build_llama.cache_folder(choice)
    folder.mkdir(parents=True)
    (folder / "llama_cpp_python.whl").write_bytes(b"")
    build_llama.ensure(choice)
    assert build_llama.installed() == choice.key
    (lib / "libllama.so").write_bytes(b"another's")
    assert build_llama.installed() == ""
    build_llama.ensure(choice)
    assert build_llama.installed() == choice.key
    (lib / "libllama.so").unlink()
    assert build_llama.installed() == ""


def test_a_failed_build_leaves_no_wheel_and_shows_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], env: dict[str, str], log: Path) -> int:  # noqa: ARG001
        log.write_text("\n".join(f"line {number}" for number in range(100)))
        return 1

    monkeypatch.setattr(build_llama, "_follow", failing)
    monkeypatch.setattr(build_llama, "_need_compiler", lambda: None)
    choice: Choice = choose()
    with pytest.raises(SystemExit, match="line 99"):
        build_llama.build(choice, build_llama.cache_folder(choice))
    assert not list(build_llama.cache_folder(choice).parent.glob("*/*"))


def test_without_a_compiler_it_says_so() -> None:
    with pytest.raises(SystemExit, match="No C compiler"):
        build_llama.build(choose(), Path("unused"))
