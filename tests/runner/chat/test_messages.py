"""Messages in any form reach the template in the one it reads, and an answer comes back as the model wrote it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemotron_gguf.runner import ChatTemplate, RunnerError
from nemotron_gguf.runner.chat.messages import as_message, drop_oldest
from nemotron_gguf.runner.chat.stream import StreamParser
from nemotron_gguf.runner.events import Answer, Reasoning, ToolCall

PROPERTIES = {
    "s": {"type": "string"},
    "n": {"type": "integer"},
    "f": {"type": "number"},
    "b": {"type": "boolean"},
    "l": {"type": "array"},
    "o": {"type": "object"},
}
TOOLS = [{"type": "function", "function": {"name": "do", "parameters": {"type": "object", "properties": PROPERTIES}}}]
CALLS = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "do", "arguments": {}}}]}
TEXT = st.text(st.sampled_from("abc <>/\n\"'{}[]é字.,"), max_size=40).map(str.strip)
PLAIN = st.recursive(st.integers(-9, 9) | st.text("ab<é", max_size=4), lambda inner: st.lists(inner, max_size=3))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "s": st.text(st.sampled_from('ab <>/\n"{é'), max_size=20),
    "n": st.integers(-999, 999),
    "f": st.sampled_from([0.5, -3.25, 1e30]),
    "b": st.booleans(),
    "l": st.lists(PLAIN, max_size=3),
    "o": st.dictionaries(st.text("ab", max_size=2), PLAIN, max_size=3),
}
ARGUMENTS = st.fixed_dictionaries({}, optional=VALUES)


compiled = cache(ChatTemplate)


def written(calls: list[dict[str, Any]], words: bool) -> str:
    """Calls as Nemotron 3 writes them; it writes true as True, where its template does (`words`)."""
    text = ""
    for arguments in calls:
        text += "<tool_call>\n<function=do>\n"
        for key, value in arguments.items():
            simple = str(value) if words and isinstance(value, bool | int | float) else json.dumps(value)
            shown = value if isinstance(value, str) else simple
            if isinstance(value, list | dict):
                shown = json.dumps(value, ensure_ascii=False)
            text += f"<parameter={key}>\n{shown}\n</parameter>\n"
        text += "</function>\n</tool_call>\n"
    return text


def round_trip(
    template: ChatTemplate, thought: str, answer: str, calls: list[dict[str, Any]], step: int, words: bool
) -> None:
    asked: list[dict[str, Any]] = [{"role": "system", "content": "Help."}, {"role": "user", "content": "Do it."}]
    prompt = template.render(asked, tools=TOOLS, thinking=bool(thought))
    output = f"{thought}\n</think>\n{answer}" if thought else answer
    if calls:
        output = (output.strip() if thought or answer else "") + "\n" + written(calls, words)
    parser = StreamParser(template.format_of(prompt), TOOLS)
    events = [event for at in range(0, len(output), step) for event in parser.feed(output[at : at + step])]
    events += parser.finish()
    message = as_message(
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Answer)),
        [event for event in events if isinstance(event, ToolCall)],
    )
    assert message.get("reasoning_content", "") == thought
    assert message["content"] == answer
    assert [call["function"]["arguments"] for call in message.get("tool_calls", [])] == calls
    again = template.render([*asked, message], tools=TOOLS, thinking=bool(thought))
    assert again.startswith(f"{prompt}{output}<|im_end|>\n")


ROUND = given(
    thought=TEXT.filter(lambda text: "</think>" not in text),
    answer=TEXT.filter(bool),
    calls=st.lists(ARGUMENTS, max_size=2),
    step=st.integers(1, 9),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@ROUND
def test_the_demo_reads_again_what_it_wrote(
    demo: str, thought: str, answer: str, calls: list[dict[str, Any]], step: int
) -> None:
    round_trip(compiled(demo), thought, answer, calls, step, words=False)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@ROUND
def test_nemotron_3_reads_again_what_it_wrote(
    templates: dict[str, str], thought: str, answer: str, calls: list[dict[str, Any]], step: int
) -> None:
    source = templates["NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"]
    round_trip(compiled(source), thought, answer, calls, step, words=True)


def test_an_answer_of_calls_alone(demo: str) -> None:
    round_trip(ChatTemplate(demo), "", "", [{"n": 1}], 3, words=False)
    round_trip(ChatTemplate(demo), "So.", "", [{"n": 1}, {"s": "x"}], 3, words=False)


CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
]


def called(arguments: object) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": arguments}}
    return [message | {"tool_calls": [call]} if "tool_calls" in message else message for message in CALLED]


READS_MAPPINGS = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}{% endfor %}{% endfor %}"  # noqa: E501
READS_TEXTS = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"  # noqa: E501
READS_BOTH = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}{% endfor %}{% endfor %}"  # noqa: E501


@pytest.mark.parametrize("arguments", ['{"city": "Köln"}', {"city": "Köln"}])
def test_arguments_are_given_as_the_template_reads_them(arguments: object) -> None:
    messages = called(arguments)
    assert ChatTemplate(READS_MAPPINGS).render(messages) == "city=Köln;"
    assert ChatTemplate(READS_TEXTS).render(messages) == 'w{"city": "Köln"}'
    assert ChatTemplate(READS_BOTH).render(messages) == '{"city": "Köln"}'
    assert messages == called(arguments), "the messages are the caller's"


@pytest.mark.parametrize("arguments", ["[1]", "{", '"x"', "[" * 100_000])
def test_arguments_that_are_none_are_refused_in_one_line(arguments: str) -> None:
    with pytest.raises(RunnerError, match="arguments of a call of 'w' are no JSON object") as caught:
        ChatTemplate(READS_MAPPINGS).render(called(arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message", "shown"),
    [
        (
            "{{ messages[0].content }}",
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            "ab",
        ),
        ("{{ messages[0].content }}", {"content": ["a", "b"]}, "ab"),
        ("{% for p in messages[0].content %}{{ p.text }}{% endfor %}", {"content": "ab"}, "ab"),
        ("{{ messages[0].content.strip() }}.", CALLS, "."),
        ("{{ 'none' if messages[0].content is none }}", CALLS, "none"),
        ("{{ messages[0].reasoning_content }}", {"content": "", "reasoning": "hm"}, "hm"),
        ("{{ messages[0].role }}", {"role": "developer", "content": ""}, "system"),
        ("{{ messages[0].role }}{# developer #}", {"role": "developer", "content": ""}, "developer"),
        ("{{ tools is none }}", {"content": ""}, "True"),
        ("{% for t in tools %}x{% endfor %}-", {"content": ""}, "-"),
        ("{{ documents is defined }}", {"content": ""}, "False"),
        ("a{% generation %}{{ messages[0].content }}{% endgeneration %}", {"content": "b"}, "ab"),
        ("{{ messages[0].content | tojson }}", {"content": "<é'>"}, '"<é\'>"'),
    ],
)
def test_templates_find_what_they_expect(source: str, message: dict[str, Any], shown: str) -> None:
    assert ChatTemplate(source).render([{"role": "user"} | message]) == shown


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"content": "x"}], "no role"),
        (["x"], "no role"),
        ([{"role": "user", "content": object()}], "hold a object"),
        ([{"role": "user"}], "'user' has no content"),
        ([{"role": "tool", "content": None}], "'tool' has no content"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "'assistant' has no content"),
        ([{"role": "user", "content": 5}], "'user' has a content of type int"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "part of type 'image_url'"),
        ([{"role": "assistant", "content": "", "tool_calls": ["x"]}], "no name"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}], "no name"),
    ],
)
def test_messages_that_are_none_are_refused(messages: list[Any], reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        ChatTemplate("{{ messages[0].content }}").render(messages)


def test_a_list_that_holds_itself_is_refused() -> None:
    content: list[Any] = []
    content.append(content)
    with pytest.raises(RunnerError, match="too deep"):
        ChatTemplate("x").render([{"role": "user", "content": content}])


def talk(*roles: str) -> list[dict[str, Any]]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[role[0]], "content": role} for role in roles]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s u1 a1 u2 a2 u3", "s u2 a2 u3"),
        ("s u1 a1 t1 a2 t2 a3 u2", "s u2"),
        ("s s2 a0 u1 a1 u2", "s s2 u2"),
        ("u1 u2", "u2"),
        ("s u1 a1 t1", None),
        ("u1", None),
        ("s", None),
        ("", None),
    ],
)
def test_the_oldest_turn_goes_as_a_whole(before: str, after: str | None) -> None:
    messages = talk(*before.split())
    assert drop_oldest(messages) == (None if after is None else talk(*after.split()))
    assert messages == talk(*before.split())
