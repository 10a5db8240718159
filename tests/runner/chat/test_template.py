"""Chat templates: what they may use, what they may not, and one line when they fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

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


SUPER = (
    "{%- set enable_thinking = enable_thinking if enable_thinking is defined else true %}"
    "{%- set low_effort = low_effort if low_effort is defined else false %}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ ' (soon)' if low_effort and loop.last }}\n"
    "{% endfor %}<think>{{ '\n' if enable_thinking else '</think>' }}{# <think></think> <function= <parameter= #}"
)
SOFT = (
    "{%- set ns = namespace(on=true) %}{% for m in messages %}{% if '/think' in m.content %}{% set ns.on = true %}"
    "{% elif '/no_think' in m.content %}{% set ns.on = false %}{% endif %}"
    "[{{ m.role }}]{{ m.content.replace('/think', '').replace('/no_think', '').strip() }}{% endfor %}"
    "[assistant]{{ '<think>\n' if ns.on else '<think></think>' }}{# <TOOLCALL> #}"
)
SOFT_SYSTEM = (
    "{%- set off = messages[0].role == 'system' and '/no_think' in messages[0].content %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ '<think></think>' if off }}"
)
SAID = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    "{% if messages[0].role == 'system' %}{% if \"{'reasoning': True}\" in messages[0].content %}{{ '<think>\n' }}"
    "{% elif \"{'reasoning': False}\" in messages[0].content %}{{ '<think></think>' }}{% endif %}{% endif %}"
)
LLAMA = "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}<|eot_id|>{% endfor %}"
LLAMA_SAID = (
    "<|start_header_id|>system<|end_header_id|>detailed thinking {}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>Hi<|eot_id|>"
)
ALWAYS = "{{ messages[-1].content }}{{ '<think>\\n' }}"
HI = [{"role": "user", "content": "Hi"}]
BRIEF = [{"role": "system", "content": "Be brief."}, *HI]


@pytest.mark.parametrize(
    ("source", "name", "on", "off"),
    [
        (SUPER, "", "<|im_start|>user\nHi\n<think>\n", "<|im_start|>user\nHi\n<think></think>"),
        (SOFT, "", "[user]Hi[assistant]<think>\n", "[user]Hi[assistant]<think></think>"),
        (SOFT_SYSTEM, "", "[user]Hi", "[system]/no_think[user]Hi<think></think>"),
        (
            SAID,
            "",
            "[system]{'reasoning': True}[user]Hi[assistant]<think>\n",
            "[system]{'reasoning': False}[user]Hi[assistant]<think></think>",
        ),
        (
            LLAMA,
            "Llama-3.1-Nemotron-Nano-8B-v1",
            LLAMA_SAID.format("on"),
            LLAMA_SAID.format("off"),
        ),
        (ALWAYS, "", "Hi<think>\n", "Hi<think></think>"),
    ],
    ids=["variable", "user", "system", "said", "llama", "always"],
)
def test_one_switch_for_all_families(source: str, name: str, on: str, off: str) -> None:
    template = ChatTemplate(source, name=name)
    assert template.has_switch
    assert template.render(HI) == on
    assert template.render(HI, thinking=False) == off
    assert template.format_of(on).thinking == on.endswith("<think>\n")
    assert not template.format_of(off).thinking


def test_the_switch_stands_beside_what_the_system_says() -> None:
    llama = ChatTemplate(LLAMA, name="Llama 3.3 Nemotron Super 49B v1")
    assert ">detailed thinking off\n\nBe brief.<" in llama.render(BRIEF, thinking=False)
    said = [{"role": "system", "content": "detailed thinking on\n\nBe brief."}, *HI]
    assert llama.render(said, thinking=False) == llama.render(BRIEF, thinking=False)
    assert llama.render(said) == llama.render(BRIEF)
    assert ChatTemplate(SAID).render(BRIEF).startswith("[system]{'reasoning': True}\n\nBe brief.")
    assert not ChatTemplate(LLAMA, name="Llama-3.1-Nemotron-70B-Instruct").has_switch
    assert not ChatTemplate(LLAMA, name="Llama 3.1 8B Instruct").has_switch


def test_a_text_that_looks_like_the_switch_leaves_no_reasoning_open() -> None:
    """In these templates `/think` anywhere switches on, as in a path or in `</think>`."""
    messages = [{"role": "user", "content": "ls /thinking"}]
    assert ChatTemplate(SOFT).render(messages, thinking=False).endswith("<think></think>")
    assert (
        ChatTemplate(SOFT)
        .render([{"role": "user", "content": "Hi /no_think"}])
        .endswith("Hi[assistant]<think></think>")
    )


def test_a_short_reasoning_is_asked_for_where_the_template_can() -> None:
    template = ChatTemplate(SUPER)
    assert template.has_low_effort
    assert "Hi (soon)" in template.render(HI, low_effort=True)
    assert "(soon)" not in template.render(HI)
    assert not ChatTemplate(SOFT).has_low_effort
    assert ChatTemplate(SOFT).render(HI, low_effort=True) == ChatTemplate(SOFT).render(HI)


def test_the_marks_are_the_familys() -> None:
    form = ChatTemplate(SUPER).format_of("x")
    assert (form.tools, form.call_begin, form.close, form.bridge) == ("xml", "<tool_call>", ".\n</think>\n\n", ".")
    form = ChatTemplate(SOFT).format_of("x")
    assert (form.tools, form.call_begin, form.call_end) == ("json", "<TOOLCALL>", "</TOOLCALL>")
    form = ChatTemplate(LLAMA, name="Llama-3.1-Nemotron-Nano-4B-v1.1").format_of("x")
    assert (form.tools, form.call_begin, form.close) == ("json", "<TOOLCALL>", ".\n</think>\n\n")
    form = ChatTemplate("[THINK]x[/THINK]").format_of("x[THINK]\n")
    assert (form.thinking, form.begin, form.end, form.tools) == (True, "[THINK]", "[/THINK]", "none")
    assert form.close.endswith(".\n[/THINK]\n\n")
    assert form.may_open is False
    assert ChatTemplate("<tool_call>").format_of("x").may_open


def test_the_demo(demo: str) -> None:
    template = ChatTemplate(demo)
    assert template.has_switch
    assert not template.has_low_effort
    on, off = template.render(HI), template.render(HI, thinking=False)
    assert on.endswith("<|im_start|>assistant\n<think>\n")
    assert off.endswith("<|im_start|>assistant\n<think></think>")
    assert template.format_of(on).thinking
    assert not template.format_of(off).may_open


def test_roles_in_a_wrong_order_are_told_in_the_templates_words(demo: str) -> None:
    with pytest.raises(RunnerError, match="unknown role: oracle"):
        ChatTemplate(demo).render([{"role": "oracle", "content": "x"}])


TOOLS = [{"type": "function", "function": {"name": "w", "description": "é", "parameters": {"properties": {"n": {}}}}}]
CALL = {"id": "call00001", "type": "function", "function": {"name": "w", "arguments": {"n": 3}}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "content": "3", "tool_call_id": "call00001", "name": "w"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "And?"},
]


def reference(source: str, messages: object, tools: object) -> str:
    """What jinja2's sandbox writes without our limits, set up as transformers does it."""
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise RuntimeError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = lambda value, **kwargs: json.dumps(value, ensure_ascii=False, **kwargs)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(source).render(
        messages=messages, tools=tools, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )


def test_the_limits_change_nothing_in_any_makers_template(templates: dict[str, str]) -> None:
    from nemotron_gguf.runner.chat.sandbox import Sandbox

    conversations: list[tuple[list[dict[str, Any]], Any]] = [
        (TALK, TOOLS),
        (TALK[:1], None),
        ([*TALK[:1], *TALK[3:]], None),
    ]
    same = 0
    for name, source in templates.items():
        sandbox = Sandbox()
        template = sandbox.compile(source)
        for messages, tools in conversations:
            try:
                expected = reference(source, messages, tools)
            except Exception:
                continue  # the template refuses this conversation
            values = {"messages": messages, "tools": tools, "add_generation_prompt": True}
            found = sandbox.render(template, values | {"bos_token": "<s>", "eos_token": "</s>"})
            assert found == expected, name
            same += 1
    assert same > 2 * len(templates)


@pytest.mark.parametrize(
    ("name", "tools", "close"),
    [
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "xml", ".\n</think>\n"),  # as the template writes a reasoning
        ("NVIDIA-Nemotron-Nano-v2", "json", ".\n</think>\n\n"),  # as the model's card closes one
    ],
)
def test_nvidias_own(templates: dict[str, str], name: str, tools: str, close: str) -> None:
    template = ChatTemplate(templates[name])
    on, off = template.render(BRIEF), template.render(BRIEF, thinking=False)
    assert on.endswith("<think>\n")
    assert off.endswith("<think></think>")
    assert on.removesuffix("\n") + "</think>" == off, "the switch leaves no trace but the end"
    form = template.format_of(on)
    assert (form.thinking, form.tools, form.close) == (True, tools, close)
    openai = [{**CALL, "function": {"name": "w", "arguments": '{"n": 3}'}}]
    asked = [TALK[0], {"role": "assistant", "content": None, "tool_calls": openai}, TALK[2]]
    shown = template.render(asked, tools=TOOLS)
    assert "<parameter=n>\n3\n</parameter>" in shown if tools == "xml" else '"arguments": {"n": 3}}]' in shown


def test_two_hundred_turns_cost_little_more_than_jinja_itself(demo: str) -> None:
    messages = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "word " * 60}] * 200
    template = ChatTemplate(demo)

    def seconds(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    assert reference(demo, messages[:3], None) == template.render(messages[:3])
    ours = min(seconds(lambda: template.render(messages)) for _ in range(5))
    compiled = seconds(lambda: reference(demo, [], None))
    theirs = min(seconds(lambda: reference(demo, messages, None)) for _ in range(5)) - compiled
    assert ours - theirs < 0.04  # 20 ms, on a machine that has other things to do
