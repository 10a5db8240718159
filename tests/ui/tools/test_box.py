"""A call always comes back as a text, whatever the model asks for and whatever the tool does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nemotron_gguf.ui.tools import ToolBox, ToolError
from nemotron_gguf.ui.tools.box import failed
from nemotron_gguf.ui.tools.built_in import built_in


class Scripted:
    """A tool that does what a test says."""

    description = "A tool."
    acts = False

    def __init__(self, work: Callable[[Mapping[str, Any], threading.Event], str], name: str = "look") -> None:
        self.name, self.call = name, work
        self.parameters: Mapping[str, Any] = {
            "type": "object",
            "properties": {"n": {"type": "integer", "maximum": 9}},
            "required": ["n"],
        }


def say(text: str) -> Scripted:
    return Scripted(lambda _arguments, _stopped: text)


def test_tools_are_offered_in_the_form_of_the_api() -> None:
    box = ToolBox([say("x")])
    assert box.names == ("look",)
    assert box.specs() == [
        {
            "type": "function",
            "function": {"name": "look", "description": "A tool.", "parameters": say("").parameters},
        }
    ]
    json.dumps(ToolBox(built_in(["calculator", "clock", "folder=.", "python"])).specs())


def test_arguments_come_as_a_text_or_as_a_mapping() -> None:
    box = ToolBox([Scripted(lambda arguments, _stopped: str(arguments["n"]))])
    assert box.call("look", '{"n": 3}') == "3"
    assert box.call("look", {"n": 3}) == "3"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("none", "{}", "there is no tool 'none'; there are: look"),
        ("look", "{", "are no JSON"),
        ("look", "[" * 100_000, "are no JSON"),
        ("look", "[1]", "no JSON object"),
        ("look", "", "'n' is a required property"),
        ("look", '{"n": "x"}', "do not fit at n: 'x' is not of type 'integer'"),
        ("look", '{"n": 10}', "10 is greater than the maximum"),
    ],
)
def test_a_wrong_call_is_told_to_the_model(name: str, arguments: str, words: str) -> None:
    result = ToolBox([say("x")]).call(name, arguments)
    assert result.startswith("Error: ")
    assert failed(result)
    assert words in result


def test_a_tool_that_fails_is_told_to_the_model() -> None:
    def refuse(_arguments: object, _stopped: object) -> str:
        raise ToolError("it rains")

    def break_down(_arguments: object, _stopped: object) -> str:
        raise KeyError("x")

    box = ToolBox([Scripted(refuse), Scripted(break_down, "other")])
    assert box.call("look", {"n": 1}) == "Error: it rains"
    assert box.call("other", {"n": 1}) == "Error: other failed (KeyError: 'x')"


def test_a_call_has_only_so_much_time_and_hears_of_its_end() -> None:
    told = threading.Event()

    def hang(_arguments: object, stopped: threading.Event) -> str:
        stopped.wait()
        told.set()
        threading.Event().wait()
        return "never"

    assert "it took longer than 0.1 s" in ToolBox([Scripted(hang)], seconds=0.1).call("look", {"n": 1})
    assert told.wait(30)


def test_a_person_can_stop_a_call() -> None:
    begun, stopped = threading.Event(), threading.Event()

    def hang(_arguments: object, _stopped: object) -> str:
        begun.set()
        threading.Event().wait()
        return "never"

    def person() -> None:
        begun.wait()
        stopped.set()

    threading.Thread(target=person, daemon=True).start()
    assert "the person stopped it" in ToolBox([Scripted(hang)]).call("look", {"n": 1}, stopped)


def test_a_long_result_loses_its_middle_and_halves_of_characters_are_mended() -> None:
    box = ToolBox([say("a" * 90 + "\ud800" + "z" * 40)], longest=100)
    result = box.call("look", {"n": 1})
    assert result == f"{'a' * 75}\n[… 31 characters are left out here …]\n{'z' * 25}"
    assert ToolBox([say("\ud800")]).call("look", {"n": 1}) == "?"


def test_names_are_unique_and_callable() -> None:
    with pytest.raises(ToolError, match="two tools are named 'look'"):
        ToolBox([say("a"), say("b")])
    with pytest.raises(ToolError, match="letters, digits"):
        ToolBox([Scripted(lambda _arguments, _stopped: "", "a b")])
    with pytest.raises(ToolError, match=r"there is no tool 'folder'; there are: calculator, clock, folder=PATH"):
        built_in(["folder"])


def test_what_acts_is_known_and_what_is_not_there_counts_as_acting() -> None:
    box = ToolBox(built_in(["calculator", "clock", "folder=.", "python", "clock"]))
    assert [name for name in box.names if box.acts(name)] == ["run_python"]
    assert box.acts("none")


def test_a_schema_that_nobody_can_apply_does_not_stop_a_call() -> None:
    tool = say("done")
    for schema in ({"type": 3}, {"$ref": "#/nowhere"}, {"type": "object", "properties": 5}, {"pattern": "("}):
        tool.parameters = schema
        assert ToolBox([tool]).call("look", {"n": 1}) == "done"
