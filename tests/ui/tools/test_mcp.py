"""MCP servers, real ones: a program that is started here, and one behind an address."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.ui.tools import ConfigError, ToolBox
from nemotron_gguf.ui.tools.mcp import Servers, tool_name
from nemotron_gguf.ui.tools.mcp_config import Server, read_config

SERVER = Path(__file__).with_name("mcp_server.py")


def config(folder: Path, servers: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    command = {"command": sys.executable, "args": [str(SERVER)], "env": {"SMALL_WORD": "hello"}}
    broken = {"command": sys.executable, "args": [str(SERVER), "broken"]}
    wanted = {"small": command, "broken": broken, "none": {"command": "no-such-program-anywhere"}}
    with Servers(read_config(config(tmp_path_factory.mktemp("mcp"), wanted))) as servers:
        yield servers


def test_a_program_is_started_and_its_tools_are_offered(small: Servers) -> None:
    box = ToolBox(small.tools)
    assert set(box.names) == {f"small__{name}" for name in ("add", "write", "fail", "pid", "die", "hang")}
    assert box.call("small__add", '{"a": 2, "b": 3}') == "5"
    assert box.call("small__pid", "{}").endswith(" hello")
    assert box.call("small__fail", "{}").startswith("Error: Error executing tool fail")
    assert "'b' is a required property" in box.call("small__add", '{"a": 2}')


def test_what_does_not_say_that_it_only_reads_acts(small: Servers) -> None:
    box = ToolBox(small.tools)
    assert {name for name in box.names if box.acts(name)} == {"small__write", "small__die"}


def test_a_server_that_cannot_be_started_says_why_and_stops_no_other(small: Servers) -> None:
    assert set(small.failures) == {"broken", "none"}
    assert "I cannot find my settings" in small.failures["broken"]
    assert "cannot be started" in small.failures["none"]


def test_a_server_that_died_is_started_again(small: Servers) -> None:
    box = ToolBox(small.tools)
    before = box.call("small__pid", "{}")
    assert "ended during the call" in box.call("small__die", "{}")
    after = box.call("small__pid", "{}")
    assert after.endswith(" hello")
    assert after != before
    assert "ended during the call" in box.call("small__die", "{}")
    assert "ended during the call" in box.call("small__die", "{}")
    assert "and again after it was restarted" in box.call("small__add", '{"a": 1, "b": 1}')


def test_a_call_that_hangs_can_be_stopped_and_close_leaves_no_child() -> None:
    with Servers([Server("small", (sys.executable, str(SERVER)))]) as servers:
        box = ToolBox(servers.tools)
        number = box.call("small__pid", "{}").split()[0]
        stopped = threading.Event()
        stopped.set()
        assert "stopped" in box.call("small__hang", "{}", stopped)
    if sys.platform == "linux":
        assert not Path("/proc", number).exists()
    servers.close()


@pytest.fixture
def address() -> Iterator[str]:
    """The same server behind an address that wants a header."""
    import uvicorn

    from nemotron_gguf.tests.ui.tools.mcp_server import make

    app = make().streamable_http_app()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (b"authorization", b"Bearer key") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(guarded, log_level="critical"))
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        server.should_exit = True
        thread.join(20)


def test_a_server_behind_an_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", "key")
    headers = {"Authorization": "Bearer ${SMALL_KEY}"}
    wanted = {"web": {"type": "http", "url": address, "headers": headers}, "shut": {"url": address}}
    wanted["away"] = {"url": "http://127.0.0.1:9/mcp"}
    with Servers(read_config(config(tmp_path, wanted))) as servers:
        assert ToolBox(servers.tools).call("web__add", '{"a": 40, "b": 2}') == "42"
        assert set(servers.failures) == {"shut", "away"}
        for failure in servers.failures.values():
            assert "\n" not in failure
            assert "cannot be started" in failure


def test_two_servers_with_the_same_tools_do_not_clash() -> None:
    taken: set[str] = set()
    for server, tool in (
        ("a", "x"),
        ("b", "x"),
        ("a b", "x"),
        ("a.b", "x"),
        ("a", "y" * 90),
        ("中文", "工具"),
        ("", ""),
    ):
        name = tool_name(server, tool, taken)
        assert name not in taken
        taken.add(name)
        assert len(name) <= 64
        assert name.isascii()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[]", "names no servers"),
        ('{"servers": {}}', "names no servers"),
        ('{"mcpServers": {"a": {}}}', "'a' has neither"),
        ('{"mcpServers": {"a": {"command": "x", "url": "http://x"}}}', "'a' has both"),
        ('{"mcpServers": {"a": {"command": ""}}}', "'a' is none"),
        ('{"mcpServers": {"a": {"command": "x", "args": "y"}}}', r"'a' is none.*args"),
        ('{"mcpServers": {"a": {"url": "file:///etc/passwd"}}}', "expected one with http"),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": "${NEMOTRON_TEST_NOT_SET}"}}}}', "which is not set"),
        ('{"mcpServers": {"a": {"type": "sse", "url": "http://x"}}}', "of type 'sse'"),
        ('{"mcpServers": {"a": 3}}', "'a' is none"),
    ],
)
def test_a_file_that_names_no_servers_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as error:
        read_config(path)
    assert "\n" not in str(error.value)


def test_a_file_as_other_clients_have_it(tmp_path: Path) -> None:
    wanted = {
        "one": {"command": "x", "args": ["-y"], "env": {"A": "${NEMOTRON_TEST_NOT_SET:-b}"}, "autoApprove": []},
        "off": {"command": "x", "disabled": True},
        "two": {"type": "http", "url": "https://x/mcp", "headers": {"A": "b"}},
    }
    assert read_config(config(tmp_path, wanted)) == [
        Server("one", ("x", "-y"), (("A", "b"),)),
        Server("two", url="https://x/mcp", headers=(("A", "b"),)),
    ]
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "none")
