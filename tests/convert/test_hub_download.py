"""The command line and a repository of the Hub, rehearsed on this machine and reached by HF_ENDPOINT."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.tests.hub_server import COMMIT, REPO, Hub, cut, status

WEIGHTS = "model.safetensors"


def nemotron(hub_url: str, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the Hub's client reads its environment when it is imported."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    env |= {"NEMOTRON_NETWORK_PATIENCE": "10", "NEMOTRON_HOME": str(home / "nemotron"), **variables}
    return subprocess.run(
        [sys.executable, "-m", "nemotron_gguf.ui.cli", *arguments], capture_output=True, encoding="utf-8", env=env
    )


def built(folder: Path) -> dict[str, str]:
    """SHA-256 of the tensors of the files in a folder, by type; the keys before them tell where a model comes from."""
    return {path.stem.rpartition("-")[2]: digest(path) for path in folder.glob("*.gguf")}


def digest(path: Path) -> str:
    first = min(tensor.offset for tensor in read_gguf(path).tensors)
    return hashlib.sha256(path.read_bytes()[first:]).hexdigest()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The demo's files as they are built from its folder."""
    folder = tmp_path_factory.mktemp("straight")
    done = nemotron(
        "http://127.0.0.1:9", folder, "build", str(CHECKPOINT), "--type", "Q4_K_M", "--type", "Q8_0",
        "--out-dir", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return built(folder)


def test_weights_are_read_once_and_not_stored(hub: Hub, tmp_path: Path, straight: dict[str, str]) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    done = nemotron(
        hub.url, home, "build", REPO, "--type", "Q4_K_M", "--type", "Q8_0", "--out-dir", str(out), HF_TOKEN="hf_secret"
    )
    assert done.returncode == 0, done.stderr
    assert built(out) == straight
    sent = sum(request.sent for request in hub.asked("storage", WEIGHTS))
    assert sent == len(hub.files[WEIGHTS]), "every byte once"
    assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]
    assert {r.authorization for r in hub.asked("api") + hub.asked("hub", WEIGHTS, "HEAD")} == {"Bearer hf_secret"}
    assert {r.authorization for r in hub.asked("storage")} == {""}, "the token is the Hub's alone"
    assert "hf_secret" not in done.stdout + done.stderr


def test_what_is_kept_is_used_with_and_without_a_network(hub: Hub, tmp_path: Path, straight: dict[str, str]) -> None:
    home = tmp_path / "home"
    kept = nemotron(hub.url, home, "convert", REPO, str(tmp_path / "a.gguf"), "--keep-source")
    assert kept.returncode == 0, kept.stderr
    got = len(hub.asked("storage", WEIGHTS))
    for number, variables in enumerate(({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"})):
        again = nemotron(
            hub.url, home, "build", REPO, "--type", "Q8_0", "--out-dir", str(tmp_path / str(number)), **variables
        )
        assert again.returncode == 0, again.stderr
        assert built(tmp_path / str(number))["Q8_0"] == straight["Q8_0"]
    assert len(hub.asked("storage", WEIGHTS)) == got


def test_failures_on_the_way_are_outlasted(hub: Hub, tmp_path: Path, straight: dict[str, str]) -> None:
    hub.lifetime = 3
    hub.fail("api", "*", status(503), status(429, Retry_After="0"))
    hub.fail("hub", WEIGHTS, status(502))
    hub.fail("storage", WEIGHTS, status(500), cut(300_000), cut(70_000, reset=True), status(503))
    done = nemotron(hub.url, tmp_path / "home", "build", REPO, "--type", "Q8_0", "--out-dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert built(tmp_path / "out")["Q8_0"] == straight["Q8_0"]


def test_a_run_whose_network_is_lost_goes_on(hub: Hub, tmp_path: Path, straight: dict[str, str]) -> None:
    command = ("build", REPO, "--type", "Q8_0", "--out-dir", str(tmp_path / "out"))
    hub.fail_always("storage", WEIGHTS, status(503), after=8)
    lost = nemotron(hub.url, tmp_path / "home", *command, NEMOTRON_NETWORK_PATIENCE="1")
    refused(lost, "is kept: the same command goes on there", tmp_path / "out")
    before = sum(request.sent for request in hub.asked("storage", WEIGHTS))
    hub.forgive()
    done = nemotron(hub.url, tmp_path / "home", *command)
    assert done.returncode == 0, done.stderr
    assert built(tmp_path / "out")["Q8_0"] == straight["Q8_0"]
    after = sum(request.sent for request in hub.asked("storage", WEIGHTS)) - before
    assert after < len(hub.files[WEIGHTS]), "what is kept is not read again"


def test_a_run_whose_source_changed_starts_anew(hub: Hub, tmp_path: Path, straight: dict[str, str]) -> None:
    command = ("build", REPO, "--type", "Q8_0", "--out-dir", str(tmp_path / "out"))
    right = hub.files[WEIGHTS]
    hub.files[WEIGHTS] = right[:-200_000] + bytes(100_000) + right[-100_000:]
    hub.fail_always("storage", WEIGHTS, status(503), after=8)
    lost = nemotron(hub.url, tmp_path / "home", *command, NEMOTRON_NETWORK_PATIENCE="1")
    refused(lost, "is kept: the same command goes on there", tmp_path / "out")
    hub.forgive()
    hub.files[WEIGHTS] = right
    done = nemotron(hub.url, tmp_path / "home", *command)
    assert done.returncode == 0, done.stderr
    assert "starting afresh: what an earlier run left is of another" in done.stderr
    assert built(tmp_path / "out")["Q8_0"] == straight["Q8_0"]


def refused(result: subprocess.CompletedProcess[str], words: str, folder: Path) -> None:
    assert result.returncode == 1
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not list(folder.glob("*.gguf"))


def test_a_gated_repository(hub: Hub, tmp_path: Path) -> None:
    hub.gated, hub.token = True, "hf_right"
    command = ("convert", REPO, str(tmp_path / "a.gguf"))
    for variables in ({}, {"HF_TOKEN": "hf_wrong"}):
        result = nemotron(hub.url, tmp_path / "home", *command, **variables)
        refused(result, f"accept its licence at {hub.url}/{REPO}, then log in with `hf auth login`", tmp_path)
    assert nemotron(hub.url, tmp_path / "home", *command, HF_TOKEN="hf_right").returncode == 0


def test_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    hub.private = True
    refused(
        nemotron(hub.url, tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf")), "or it is private", tmp_path
    )


@pytest.mark.parametrize(
    ("code", "headers", "words"),
    [
        (404, {"X_Error_Code": "RepoNotFound"}, "no repository"),
        (401, {"X_Error_Message": "Invalid credentials in Authorization header"}, "does not accept your token"),
        (403, {"X_Error_Message": "Forbidden: enable access in your token's settings"}, "in your token's settings"),
        (500, {}, "files are kept"),
    ],
)
def test_a_refusal_is_one_line(hub: Hub, tmp_path: Path, code: int, headers: dict[str, str], words: str) -> None:
    hub.fail_always("api", "*", status(code, **headers))
    variables = {"NEMOTRON_NETWORK_PATIENCE": "2"} if code >= 500 else {}  # which is tried again until then
    result = nemotron(hub.url, tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"), **variables)
    refused(result, words, tmp_path)


def test_revisions(hub: Hub, tmp_path: Path) -> None:
    result = nemotron(hub.url, tmp_path / "home", "convert", f"{REPO}@v9", str(tmp_path / "a.gguf"))
    refused(result, "has no revision v9", tmp_path)
    result = nemotron(hub.url, tmp_path / "home", "convert", f"{REPO}@{COMMIT}", str(tmp_path / "a.gguf"))
    assert result.returncode == 0, result.stderr


def test_no_hub_at_all(tmp_path: Path) -> None:
    result = nemotron(
        "http://127.0.0.1:9",
        tmp_path / "home",
        "convert",
        REPO,
        str(tmp_path / "a.gguf"),
        NEMOTRON_NETWORK_PATIENCE="1",
    )
    refused(result, "could not be reached", tmp_path)
    offline = nemotron(
        "http://127.0.0.1:9", tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"), HF_HUB_OFFLINE="1"
    )
    refused(offline, "HF_HUB_OFFLINE is set", tmp_path)
