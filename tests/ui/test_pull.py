"""`nemotron pull`, `nemotron models`, and names in place of files, as a person and a program meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.tests.hub_server import COMMIT, Hub, status
from nemotron_gguf.tests.pull_rehearsal import CHUNK, REPO, Program, in_parts, offer, sha256, small_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def nemotron(
    hub_here: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Program:
    del hub_here
    return Program(capsys, monkeypatch, tmp_path)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


def snapshot(nemotron: Program) -> Path:
    return nemotron.cache / f"models--{REPO.replace('/', '--')}" / "snapshots" / COMMIT


def checkpoint(hub: Hub) -> None:
    """A small one: its weights are no weights, nobody reads them here."""
    offer(hub, {p.name: p for p in CHECKPOINT.iterdir() if p.suffix in (".json", ".jinja")})
    hub.files[WEIGHTS] = bytes(range(256)) * 512
    hub.files |= {"pytorch_model.bin": b"other weights", "extra/notes.md": b"more", ".gitattributes": b"*"}


def without_network(hub: Hub) -> None:
    """Nobody answers any more, on connections that are open neither."""
    from huggingface_hub import close_session

    close_session()
    for server in hub.servers:
        server.down()


def test_a_checkpoint_lies_where_the_library_finds_it(hub_here: Hub, nemotron: Program) -> None:
    checkpoint(hub_here)
    ended = nemotron("pull", REPO)
    assert (ended.status, ended.out) == (0, f"{snapshot(nemotron)}\n"), ended.err
    names = [n for n in hub_here.files if n not in ("pytorch_model.bin", ".gitattributes")]
    code = (
        "import json, sys, huggingface_hub as hub\n"
        "folder = hub.snapshot_download(sys.argv[1], local_files_only=True)\n"
        "found = {n: hub.try_to_load_from_cache(sys.argv[1], n) for n in sys.argv[2:]}\n"
        "print(json.dumps([folder, found, hub.hf_hub_download(sys.argv[1], sys.argv[2], local_files_only=True)]))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_HUB_CACHE": str(nemotron.cache), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", code, REPO, *names], capture_output=True, text=True, env=env)
    assert found.returncode == 0, found.stderr
    folder, files, one = json.loads(found.stdout)
    assert folder == str(snapshot(nemotron)) == str(Path(one).parent)
    for name in names:
        assert Path(files[name]).read_bytes() == hub_here.files[name], name
    assert not (snapshot(nemotron) / "pytorch_model.bin").exists(), "other weights stay where they are"
    assert not [path for path in nemotron.cache.rglob("*") if path.name.endswith((".part", ".journal"))]
    ranges = hub_here.asked("storage", WEIGHTS)
    assert len(ranges) == len(hub_here.files[WEIGHTS]) // CHUNK, "every range once"
    assert nemotron("pull", REPO).status == 0
    assert nemotron("pull", f"{REPO}@{COMMIT}").status == 0
    assert len(hub_here.asked("storage", WEIGHTS)) == len(ranges), "what is there is kept"
    without_network(hub_here)
    offline = nemotron("pull", REPO, patience=1)
    assert (offline.status, offline.out) == (0, f"{snapshot(nemotron)}\n")
    for server in hub_here.servers:
        server.up()


def test_what_another_commit_brought_is_linked(hub_here: Hub, nemotron: Program) -> None:
    checkpoint(hub_here)
    assert nemotron("pull", REPO).status == 0
    got = len(hub_here.asked("storage", WEIGHTS))
    for path in snapshot(nemotron).iterdir():
        path.rename(nemotron.cache / "elsewhere") if path.is_dir() else path.unlink()
    assert nemotron("pull", REPO).status == 0
    assert (snapshot(nemotron) / WEIGHTS).read_bytes() == hub_here.files[WEIGHTS]
    assert len(hub_here.asked("storage", WEIGHTS)) == got


def test_a_file_system_without_links(hub_here: Hub, nemotron: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    checkpoint(hub_here)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert nemotron("pull", REPO).status == 0
    weights = snapshot(nemotron) / WEIGHTS
    assert weights.read_bytes() == hub_here.files[WEIGHTS]
    assert not weights.is_symlink()
    assert not [path for path in nemotron.cache.rglob("blobs/*") if path.stat().st_size > CHUNK], "not twice"
    got = len(hub_here.asked("storage", WEIGHTS))
    assert nemotron("pull", REPO).status == 0
    assert len(hub_here.asked("storage", WEIGHTS)) == got


def test_a_checkpoint_in_a_folder_of_ones_own(hub_here: Hub, nemotron: Program, tmp_path: Path) -> None:
    checkpoint(hub_here)
    out = tmp_path / "new" / "folder"
    ended = nemotron("pull", REPO, "--out-dir", out)
    assert (ended.status, ended.out) == (0, f"{out}\n"), ended.err
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == {n: d for n, d in hub_here.files.items() if n not in ("pytorch_model.bin", ".gitattributes")}
    assert not nemotron.cache.exists()
    got = len(hub_here.asked("storage"))
    assert nemotron("pull", REPO, "--out-dir", out).status == 0
    assert len(hub_here.asked("storage")) == got
    (out / "config.json").write_bytes(b"mine")
    ended = nemotron("pull", REPO, "--out-dir", out)
    assert ended.status == 1
    assert f"{out / 'config.json'} exists and is another file" in ended.last
    assert (out / "config.json").read_bytes() == b"mine"


def test_keep_source_takes_the_same_road(hub_here: Hub, nemotron: Program) -> None:
    hub_here.fail_always("storage", WEIGHTS, status(403), after=3)
    args = ("build", REPO, "--type", "Q8_0", "--keep-source")
    nemotron.monkeypatch.setattr("nemotron_gguf.convert.hub.fetch.CHUNK", 1 << 20)
    cut = nemotron(*args, patience=1)
    assert cut.status == 1
    assert nemotron.names() == []
    blobs = snapshot(nemotron).parent.parent / "blobs"
    assert [path.suffix for path in blobs.iterdir() if path.suffix] in ([".journal", ".part"], [".part", ".journal"])
    hub_here._faults.clear()
    got = len(hub_here.asked("storage", WEIGHTS))
    done = nemotron(*args)
    assert done.status == 0, done.err
    sent = sum(request.sent for request in hub_here.asked("storage", WEIGHTS)[got:])
    assert sent < len(hub_here.files[WEIGHTS]), "what came is not asked for again"
    assert sha256(snapshot(nemotron) / WEIGHTS) == hub_here.etag(WEIGHTS)
    assert nemotron.names() == ["Nemotron-Demo-Q8_0.gguf", "Nemotron-Demo-Q8_0.gguf.sha256"]
    assert done.last == "talk with it: nemotron chat Nemotron-Demo-Q8_0"
    assert json.loads(nemotron("inspect", "nemotron-demo-q8_0", "--json").out)["architecture"] == "nemotron_h_moe"


def test_a_ready_model_comes_to_the_library(hub_here: Hub, nemotron: Program, small: Path) -> None:
    offer(hub_here, {"Small-Q4_K_M.gguf": small, "Small-Q8_0.gguf": b"not this", "mmproj-F16.gguf": b"nor this"})
    ended = nemotron("pull", REPO)
    target = nemotron.library / "Small-Q4_K_M.gguf"
    assert ended.status == 0, ended.err
    assert ended.out == f"{target}  331 kB\n"
    assert ended.last == "talk with it: nemotron chat Small-Q4_K_M"
    assert target.read_bytes() == small.read_bytes()
    assert nemotron.names() == [target.name, f"{target.name}.origin.json", f"{target.name}.sha256"]
    assert nemotron("verify", target).status == 0
    got = len(hub_here.asked("storage"))
    assert nemotron("pull", f"{REPO}:q4_k_m").status == 0
    assert len(hub_here.asked("storage")) == got
    (nemotron.library / f"{target.name}.sha256").unlink()
    assert nemotron("pull", REPO).status == 0
    assert (nemotron.library / f"{target.name}.sha256").read_text() == f"{sha256(small)}  {target.name}\n"
    target.write_bytes(small.read_bytes()[:-1])
    assert "exists and is another file" in nemotron("pull", REPO).last


def test_parts_come_together_and_the_first_is_named_last(
    hub_here: Hub, nemotron: Program, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = in_parts(small)
    offer(hub_here, {f"Q8_0/{path.name}": path for path in parts})
    named: list[str] = []
    real = PartFile.rename

    def rename(part: PartFile) -> None:
        named.append(part.target.name)
        real(part)

    monkeypatch.setattr(PartFile, "rename", rename)
    ended = nemotron("pull", f"{REPO}:Q8_0", "--json")
    assert ended.status == 0, ended.err
    assert named == [parts[1].name, parts[2].name, parts[0].name]
    done = json.loads(ended.out.splitlines()[-1])
    assert done["event"] == "done"
    assert [row["bytes"] for row in done["files"]] == [path.stat().st_size for path in parts]
    assert [Path(row["path"]).read_bytes() for row in done["files"]] == [path.read_bytes() for path in parts]
    rows = json.loads(nemotron("models", "--json").out)["models"]
    assert [(row["name"], row["type"], row["problem"]) for row in rows] == [("Small-Q8_0", "Q8_0", None)]
    assert rows[0]["bytes"] == sum(path.stat().st_size for path in parts)
    (nemotron.library / parts[2].name).unlink()
    assert "1 of its 3 parts missing" in nemotron("inspect", "Small-Q8_0").last
    assert nemotron("pull", f"{REPO}:Q8_0").status == 0, "a rerun finishes it"
    assert nemotron("verify", nemotron.library / parts[0].name).status == 0


def test_a_model_in_parts_is_looked_at_as_a_whole(hub_here: Hub, nemotron: Program, small: Path) -> None:
    parts = in_parts(small)
    offer(hub_here, {path.name: path for path in parts})
    shown = json.loads(nemotron("inspect", f"{REPO}:Q8_0", "--tensors", "--json").out)
    assert {tensor["name"] for tensor in shown["tensors"]} == {tensor.name for tensor in read_gguf(small).tensors}
    assert shown["bytes"] == sum(path.stat().st_size for path in parts)
    assert nemotron.names() == [], "nothing is fetched"


def test_a_file_that_is_another_upstream_is_replaced_by_force(hub_here: Hub, nemotron: Program, small: Path) -> None:
    offer(hub_here, {small.name: small})
    assert nemotron("pull", REPO).status == 0
    newer = small_model(small.parent, "newer.gguf", seed=1)
    offer(hub_here, {small.name: newer})
    refused = nemotron("pull", REPO)
    assert refused.status == 1
    assert "exists and is another file" in refused.last
    assert "--force" in refused.last
    assert (nemotron.library / small.name).read_bytes() == small.read_bytes()
    assert nemotron("pull", REPO, "--force").status == 0
    assert (nemotron.library / small.name).read_bytes() == newer.read_bytes()
    assert nemotron("verify", REPO).status == 0
    got = len(hub_here.asked("storage"))
    assert nemotron("pull", REPO, "--force").status == 0
    assert len(hub_here.asked("storage")) == got, "what is right already is kept"


def test_force_that_is_cut_leaves_the_old_file(hub_here: Hub, nemotron: Program, small: Path) -> None:
    offer(hub_here, {small.name: small})
    assert nemotron("pull", REPO).status == 0
    offer(hub_here, {small.name: small_model(small.parent, "newer.gguf", seed=1)})
    hub_here.fail_always("storage", small.name, status(403), after=3)
    assert nemotron("pull", REPO, "--force", patience=1).status == 1
    assert (nemotron.library / small.name).read_bytes() == small.read_bytes()
    assert nemotron("verify", "Small-Q8_0").status == 0


def test_force_never_leaves_parts_of_two_models_together(hub_here: Hub, nemotron: Program, small: Path) -> None:
    parts = in_parts(small)
    offer(hub_here, {path.name: path for path in parts})
    assert nemotron("pull", f"{REPO}:Q8_0").status == 0
    requests = len(hub_here.asked("storage", parts[2].name))
    other = small.parent / "newer"
    other.mkdir()
    newer = in_parts(small_model(other, seed=1))
    offer(hub_here, {path.name: path for path in newer})
    hub_here.fail_always("storage", newer[2].name, status(403), after=requests - 1)
    assert nemotron("pull", f"{REPO}:Q8_0", "--force", patience=1).status == 1
    assert (nemotron.library / parts[1].name).read_bytes() == newer[1].read_bytes()
    assert "missing" in nemotron("inspect", "Small-Q8_0").last
    hub_here._faults.clear()
    assert nemotron("pull", f"{REPO}:Q8_0", "--force").status == 0
    assert [(nemotron.library / path.name).read_bytes() for path in parts] == [path.read_bytes() for path in newer]


def test_what_was_pulled_is_verified_by_its_repository(hub_here: Hub, nemotron: Program, small: Path) -> None:
    offer(hub_here, {small.name: small})
    assert nemotron("pull", f"{REPO}:Q8_0").status == 0
    for name in (f"{REPO}:Q8_0", f"{REPO}:q8_0"):
        found = json.loads(nemotron("verify", name, "--json").out)["files"]
        assert [Path(row["path"]) for row in found] == [nemotron.library / small.name]
    assert nemotron("verify", f"{REPO}:Q4_K_M").status == 1
    (nemotron.library / small.name).write_bytes(small.read_bytes()[:-1])
    assert nemotron("verify", f"{REPO}:Q8_0").status == 1


def test_a_type_forces_gguf(hub_here: Hub, nemotron: Program, small: Path) -> None:
    offer(hub_here, {"config.json": b"{}", WEIGHTS: b"weights", "Small-Q8_0.gguf": small})
    assert nemotron("pull", REPO).out == f"{snapshot(nemotron)}\n"
    assert nemotron.names() == []
    assert nemotron("pull", f"{REPO}:Q8_0", "--out-dir", "here").status == 0
    assert sorted(path.name for path in Path("here").iterdir()) == ["Small-Q8_0.gguf", "Small-Q8_0.gguf.sha256"]


def test_chat_and_ui_pull_what_is_not_there(
    hub_here: Hub, nemotron: Program, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nemotron_gguf.ui import chat, terminal

    talked: list[Any] = []
    monkeypatch.setattr(terminal, "chat", lambda path, *_, **__: talked.append(path))
    monkeypatch.setattr(chat, "serve", lambda path, *_, **__: talked.append(path))
    offer(hub_here, {"Small-Q4_K_M.gguf": small})
    assert nemotron("chat", REPO, "--message", "hello").status == 0
    without_network(hub_here)
    assert nemotron("ui", f"{REPO}:Q4_K_M").status == 0, "what is in the library needs no network"
    assert nemotron("chat", "small-q4_k_m").status == 0
    assert talked == [nemotron.library / "Small-Q4_K_M.gguf"] * 3
    assert "could not be reached" in nemotron("chat", f"{REPO}:Q8_0", patience=1).last
    for server in hub_here.servers:
        server.up()


def test_chat_with_a_checkpoint_says_how_to_build(hub_here: Hub, nemotron: Program) -> None:
    checkpoint(hub_here)
    ended = nemotron("chat", REPO)
    assert ended.status == 1
    assert f"nemotron build {REPO} --type Q4_K_M" in ended.last
    assert not hub_here.asked("storage")


def test_the_library_is_listed(nemotron: Program, small: Path) -> None:
    empty = nemotron("models")
    assert (empty.status, empty.out) == (0, "")
    assert "is empty" in empty.err
    nemotron.library.mkdir()
    (nemotron.library / small.name).write_bytes(small.read_bytes())
    (nemotron.library / "bad\x1b[2J.gguf").write_bytes(b"GGUF" + bytes(100))
    (nemotron.library / "cut-00001-of-00002.gguf").write_bytes(small.read_bytes()[:-9])
    (nemotron.library / "readme.txt").write_text("hello")
    ended = nemotron("models")
    assert ended.status == 0
    assert ["Small-Q8_0", "Q8_0", "331"] in [line.split()[:3] for line in ended.out.splitlines()]
    assert "is no sound GGUF file" in ended.out
    assert "1 of its 2 parts missing" in ended.out
    assert "\x1b" not in ended.out
    listed = json.loads(nemotron("models", "--json").out)
    assert listed["folder"] == str(nemotron.library)
    assert {row["name"]: row["architecture"] for row in listed["models"]}["Small-Q8_0"] == "nemotron_h_moe"


def test_a_dry_run_makes_no_library(nemotron: Program) -> None:
    planned = json.loads(nemotron("build", CHECKPOINT, "--type", "Q8_0", "--dry-run", "--json").out)
    assert Path(planned["path"]) == nemotron.library / "checkpoint-Q8_0.gguf"
    assert not nemotron.library.exists()


@pytest.mark.parametrize("name", ["Smal-Q8_0", "small"])
def test_the_nearest_name_is_told(nemotron: Program, small: Path, name: str) -> None:
    nemotron.library.mkdir()
    (nemotron.library / small.name).write_bytes(small.read_bytes())
    ended = nemotron("inspect", name)
    assert ended.status == 1
    assert "did you mean Small-Q8_0?" in ended.last


def test_lines_for_programs(hub_here: Hub, nemotron: Program, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nemotron_gguf.ui.pull.EVERY", 0.0)
    offer(hub_here, {"Small-Q4_K_M.gguf": small})
    ended = nemotron("pull", REPO, "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert {line["event"] for line in lines[:-1]} == {"progress"}
    assert {line["phase"] for line in lines[:-1]} == {"downloading", "verifying"}
    last = [line for line in lines if line.get("phase") == "downloading"][-1]
    assert last["done"] == last["total"] == small.stat().st_size
    assert last["file"] == "Small-Q4_K_M.gguf"
    assert last["rate"] > 0
    assert last["seconds_left"] == 0
    assert read_gguf(lines[-1]["files"][0]["path"]).architecture == "nemotron_h_moe"
