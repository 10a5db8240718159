"""Chat templates: what they may use, what they may not, and one line when they fail."""

from __future__ import annotations

import json

import pytest

from nemotron_gguf.runner import ChatTemplate, RunnerError

HELLO = [{"role": "user", "content": "Grüß Gott, 你好"}]


def test_messages_tools_and_the_switch_are_there() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{{ tools | tojson }}"
        "{{ enable_thinking }}{{ add_generation_prompt }}",
        {"bos_token": "<s>"},
    )
    tools = [{"type": "function", "function": {"name": "été"}}]
    shown = json.dumps(tools, ensure_ascii=False)
    assert template.render(HELLO, tools=tools, thinking=False) == f"<s>user:Grüß Gott, 你好;{shown}FalseTrue"
    assert "null" in template.render(HELLO)
    assert template.has_switch
    assert not ChatTemplate("x").has_switch


def test_blocks_are_trimmed_and_loops_can_break() -> None:
    template = ChatTemplate(
        "{% for i in range(9) %}\n  {% if i == 2 %}{% break %}{% endif %}\n{{ i }}\n{% endfor %}\nend"
    )
    assert template.render([]) == "0\n1\nend"


def test_the_year_can_be_told() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]).isdigit()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must\nalternate') }}", "roles must alternate"),
        ("{{ messages[0].content.missing.more }}", "missing"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe|not safe"),
        ("{{ messages.append(1) }}", "safe"),
        ("{{ range(10 ** 9) | list }}", "[Rr]ange"),
        ("{% include 'secret.txt' %}", "loader"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe|not safe"),
    ],
)
def test_a_failing_or_prying_template_is_one_line(source: str, reason: str) -> None:
    with pytest.raises(RunnerError, match=reason) as caught:
        ChatTemplate(source).render(HELLO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["{% for %}", "{{ unclosed", "{% nonsense %}"])
def test_a_template_that_does_not_parse_is_refused(source: str) -> None:
    with pytest.raises(RunnerError, match="not valid"):
        ChatTemplate(source)
