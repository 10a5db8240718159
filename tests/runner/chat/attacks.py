"""Templates made to take the machine. Run as a program, tries each in a thread; one JSON a line."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from pathlib import Path

DOUBLE = "{% set ns = namespace(x=START) %}{% for i in range(99) %}{% set ns.x = EXPR %}{% endfor %}{{ ns.x }}"
BIG = 10**9


def double(start: str, expression: str) -> str:
    return DOUBLE.replace("START", start).replace("EXPR", expression)


def straight(value: str, step: str) -> str:
    return f"{{% set x = {value} %}}{{% set y = x[:-1] ~ 'y' %}}" + step * 1500


REFUSED = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "nested output": "{% for a in range(99999) %}{% for b in range(99999) %}some text{% endfor %}{% endfor %}",
    "loops over a text": "{% for c in 'x' * 9999999 %}{% for d in 'x' * 9999999 %}{% endfor %}{% endfor %}",
    "a text times": f"{{{{ 'x' * {BIG} }}}}",
    "times a text": f"{{{{ {BIG} * 'x' }}}}",
    "a list times": f"{{{{ [0] * {BIG} }}}}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a product": double("7", "ns.x * ns.x"),
    "plus": double("'x'", "ns.x + ns.x"),
    "tilde": double("'x'", "ns.x ~ ns.x"),
    "a list in a list": double("[1]", "[ns.x, ns.x]"),
    "a tuple in a tuple": double("(1,)", "(ns.x, ns.x)"),
    "a mapping in a mapping": double("1", "{'a': ns.x, 'b': ns.x}"),
    "lists added": double("[1]", "ns.x + ns.x"),
    "a view of a mapping": double("{'a': 1}", "{'a': ns.x.items(), 'b': ns.x.values()}"),
    "a dict called": double("1", "dict(a=ns.x, b=ns.x)"),
    "a set block": "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}"
    "{% endset %}{% endfor %}",
    "a macro's text": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + double("'x'", "m(ns.x)"),
    "a macro's varargs": "{% set ns = namespace(x=1) %}{% macro m() %}{% set ns.x = varargs %}{% endmacro %}"
    "{% for i in range(99) %}{{ m(ns.x, ns.x) }}{% endfor %}{{ ns.x }}",
    "a macro's kwargs": "{% set ns = namespace(x=1) %}{% macro m() %}{% set ns.x = kwargs %}{% endmacro %}"
    "{% for i in range(99) %}{{ m(a=ns.x, b=ns.x) }}{% endfor %}{{ ns.x }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(100) }}",
    "a loop that calls itself": "{% for x in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "a block that calls itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "callers": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}" + "{% call m() %}" * 30 + "x"
    "{% endcall %}" * 30,
    "join": "{{ range(99999) | join('x' * 999999) }}",
    "join, the method": "{{ ('x' * 999999).join(range(99999) | map('string')) }}",
    "replace": "{{ ('x' * 999999) | replace('x', 'y' * 999999) }}",
    "replace, the method": "{{ ('x' * 999999).replace('', 'y' * 999999) }}",
    "a filter block": "{% filter replace('x', 'y' * 99999) %}{% for i in range(99999) %}x{% endfor %}{% endfilter %}",
    "center": f"{{{{ 'x' | center({BIG}) }}}}",
    "center, the method": f"{{{{ 'x'.center({BIG}) }}}}",
    "ljust": f"{{{{ 'x'.ljust({BIG}) }}}}",
    "zfill": f"{{{{ 'x'.zfill({BIG}) }}}}",
    "expandtabs": "{{ ('\t' * 9999).expandtabs(1000000) }}",
    "indent": "{{ ('\n' * 999999) | indent(1000000) }}",
    "indent with a text": "{{ ('\n' * 30000) | indent('x' * 30000) }}",
    "wordwrap": "{{ ('x ' * 9999) | wordwrap(1, true, 'y' * 9999) }}",
    "truncate": "{{ 'x' | truncate(9, true, 'x' * 9999999) }}",
    "format": f"{{{{ '%{BIG}d' | format(1) }}}}",
    "format with a star": f"{{{{ '%*d' | format({BIG}, 1) }}}}",
    "percent": f"{{{{ '%.{BIG}f' % 1 }}}}",
    "percent, many times": "{{ ('%(a)s' * 99999) % {'a': 'x' * 99999} }}",
    "braces": f"{{{{ '{{:{BIG}}}'.format(1) }}}}",
    "braces in braces": f"{{{{ '{{:{{w}}}}'.format(1, w={BIG}) }}}}",
    "braces, many times": "{{ ('{0}' * 99999).format('x' * 99999) }}",
    "format_map": f"{{{{ '{{a:>{BIG}}}'.format_map({{'a': 1}}) }}}}",
    "format through map": f"{{{{ ['%{BIG}d'] | map('format', 1) | list }}}}",
    "xmlattr": "{{ {'a': 'x' * 9999999} | xmlattr }}",
    "batch": f"{{{{ [1] | batch({BIG}, 'x') | list }}}}",
    "slice": f"{{{{ [1] | slice({BIG}) | list }}}}",
    "round": f"{{{{ 1 | round({BIG}, 'floor') }}}}",
    "striptags": "{{ ('<!--' * 3999999) | striptags }}",
    "list": "{{ ('x' * 9999999) | list | length }}",
    "split": "{{ ('x ' * 7999999).split() | length }}",
    "splitlines": "{{ ('\n' * 9999999).splitlines() | length }}",
    "JSON, deep": "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "JSON, wide": "{{ range(9999) | list | tojson(indent=1000000) }}",
    "JSON, far between": "{{ range(9999) | list | tojson(separators=('x' * 999999, '')) }}",
    "JSON, deep and wide": "{% set ns = namespace(x=range(9999) | list) %}{% for i in range(900) %}"
    "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson(indent=16) }}",
    "text of a deep list": "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x }}",
    "many texts": "".join(f"{{% set v{i} = 'é{i}' * 5000000 %}}" for i in range(100)),
    "many slices": "{% set x = 'é' * 8000000 %}" + "".join(f"{{% set v{i} = x[{i}:] %}}" for i in range(100)),
    "many copies": "{% set x = 'é' * 8000000 %}" + "".join(f"{{% set v{i} = x.upper() %}}" for i in range(100)),
    "comparisons in a row": straight("'x' * 16000000", "{% if x == y %}{% endif %}"),
    "tests in a row": straight("'x' * 16000000", "{% if x is eq y %}{% endif %}"),
    "searches in a row": straight("'x' * 8000000", "{% if y in x %}{% endif %}{% set z = x.count('xxy') %}"),
    "sums of lists": "{{ range(99999) | map('string') | map('list') | sum(start=[]) | length }}",
    "escapes": "{{ ('&' * 9999999) | e | e | e }}",
    "a date": "{{ strftime_now('%Y' * 9999999) }}",
    "escaped text": "{{ '%r' % ('\U000e0001' * 9999999) }}",
    "parentheses": "{{ " + "(" * 60000 + "1" + ")" * 60000 + " }}",
    "nested for": "{% for a in b %}" * 100_000,
    "nested if": "{% if a %}" * 6000 + "{% endif %}" * 6000,
    "a chain of plus": "{{ " + "a + " * 12000 + "a }}",
    "a chain of filters": "{{ a" + " | trim" * 12000 + " }}",
    "many expressions": "{{ a }}" * 30000,
    "many comparisons": "{{ a" + " < a" * 60000 + " }}",
    "a number of many digits": "{{ 0x" + "f" * 250_000 + " }}",
    "a source of a megabyte": " " * (1 << 20),
    "the filter urlize": "{{ 'x' | urlize }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "fromkeys": "{{ dict.fromkeys(range(99999), 1) }}",
    "encode": "{{ 'x'.encode() }}",
}

BOUNDED = {
    "namespaces in namespaces": double("1", "namespace(a=ns.x, b=ns.x)"),
    "iterators in iterators": double("[1]", "ns.x | map('string') | reverse").replace("99", "9999"),
    "a long sort": "{{ (range(99999) | list + range(99999) | list) | sort | length }}",
    "groups": "{{ range(20000) | groupby('real') | list | length }}",
    "many literals": "{{ '" + "a" * 250_000 + "' }}",
    "a number from a text": "{{ ('9' * 9999) | int }}{{ ('9' * 9999) | float }}",
    "a deep list that is dropped": "{% set ns = namespace(x=[]) %}{% for i in range(30000) %}{% set ns.x = [ns.x] %}"
    "{% endfor %}",
}


def memory(key: str) -> int:
    """Kibibytes that Linux counts for this process; 0 elsewhere."""
    if sys.platform != "linux":
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def attempt(name: str, source: str) -> None:
    """Print the kind and words of what comes of it, the seconds it worked, and the mebibytes it took at most."""
    from nemotron_gguf.runner.chat.template import ChatTemplate

    gc.collect()
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before, start, outcome = memory("VmRSS"), time.thread_time(), ("", "")
    try:
        ChatTemplate(source).render([{"role": "user", "content": "Hello"}])
    except Exception as error:
        outcome = type(error).__name__, str(error)
    seconds = time.thread_time() - start
    print(json.dumps([name, *outcome, seconds, (memory("VmHWM") - before) >> 10]), flush=True)


def main() -> None:
    import nemotron_gguf.runner.chat.limits as limits
    from nemotron_gguf.runner.chat.template import ChatTemplate

    limits.MAX_SECONDS = float(sys.argv[1])
    limits.SHARE_OF_TRIAL = 1  # or the time would hide what the memory's limits do
    ChatTemplate("{{ 1 }}").render([])
    for name, source in (REFUSED | BOUNDED).items():
        thread = threading.Thread(target=attempt, args=(name, source))
        thread.start()
        thread.join()


if __name__ == "__main__":
    main()
