"""Jinja as chat templates expect it, in a sandbox that bounds what they take. Imported where a template is read.

jinja2's own sandbox keeps a template from touching anything. Here every step that repeats, or makes a value that could
be large, passes a `Meter` first: loops, calls, operators, filters, lists, slices, output.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Joiner, Namespace
from jinja2.visitor import NodeTransformer

from nemotron_gguf.runner.chat.filters import Box, guarded_filters, stepping
from nemotron_gguf.runner.chat.limits import MAX_PIECES, MAX_TOKENS, METHODS, TooMuchError, binary, check_braces, join


class _Guarding(NodeTransformer):
    """Sends through filters what jinja2 does by itself."""

    def _through(self, name: str, node: Any, *args: Any) -> Any:
        return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)

    def visit_For(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        node.iter = self._through("each item", node.iter)
        return node

    def visit_Concat(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        return self._through("put together", nodes.Tuple(node.nodes, "load", lineno=node.lineno))

    def visit_Compare(self, node: Any) -> Any:  # noqa: N802
        return self._through("a step", self.generic_visit(node))

    def visit_Getitem(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        args = [end or nodes.Const(None, lineno=node.lineno) for end in ends]
        return self._through("a slice", node.node, *args)

    def _visit_made(self, node: Any) -> Any:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load" or not node.items:
            return node
        return self._through("a list", node)

    visit_List = visit_Tuple = visit_Dict = _visit_made  # noqa: N815


class _Generation(Extension):
    """`{% generation %}`, with which transformers marks what the assistant wrote: its body, as it is."""

    tags = {"generation"}  # noqa: RUF012

    def filter_stream(self, stream: Any) -> Any:
        for number, token in enumerate(stream):
            if number > MAX_TOKENS:
                raise TooMuchError(f"a source of more than {MAX_TOKENS} tokens")
            yield token

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Environment(ImmutableSandboxedEnvironment):
    """Renders for a `Box`, whose meter counts."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, box: Box) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=lambda value: box.meter.made(value),
            optimized=False,
            cache_size=0,
        )
        self.box = box
        self.globals = dict(_GLOBALS)
        self.filters = guarded_filters(box, self.filters)
        self.tests = {name: stepping(box, test) for name, test in dict[str, Any](self.tests).items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> Any:
        return _Guarding().visit(super()._parse(source, name, filename))

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of a template, a macro or a block."""
        return join(self.box.meter, "", pieces, MAX_PIECES)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator, once its result is known to be small."""
        meter = self.box.meter
        meter.tick()
        binary(meter, operator, left, right)
        return meter.made(super().call_binop(context, operator, left, right), 8)

    def wrap_str_format(self, value: Any) -> Any:
        """`str.format`, in jinja2's sandbox and in bounds."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> Any:
            meter = self.box.meter
            check_braces(meter, value.__self__, meter.weigh_all((*args, *kwargs.values())))
            return wrapped(*args, **kwargs)

        return formatted

    def call(__self, __context: Any, __called: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        """What a template calls: a macro, one of `_GLOBALS`, or a method that is known not to make too much."""
        meter = __self.box.meter
        meter.tick()
        if not isinstance(__called, BuiltinMethodType):
            meter.weigh_all((*args, *kwargs.values()))
            return meter.made(super().call(__context, __called, *args, **kwargs))
        for name in ("_loop_vars", "_block_vars"):  # jinja2's own, which Context.call takes away
            kwargs.pop(name, None)
        owner, name = __called.__self__, __called.__name__
        kind = next((kind for kind in type(owner).__mro__ if kind in METHODS), None)
        if kind is None or name not in METHODS[kind]:
            raise SecurityError(f"{type(owner).__name__}.{name} is not offered to chat templates")
        guard = METHODS[kind][name]
        return meter.made(guard(meter, owner, *args, **kwargs) if guard else __called(*args, **kwargs))


class _Shared(Namespace):
    """A namespace that is not written out: its values may change after it was weighed."""

    def __repr__(self) -> str:
        return "<Namespace>"


def _refuse(message: object = "") -> NoReturn:
    raise TemplateError(str(message)[:1000])


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(str(form)[:100])


_GLOBALS: dict[str, Any] = {
    "range": safe_range,
    "dict": dict,
    "joiner": Joiner,
    "namespace": _Shared,
    "raise_exception": _refuse,
    "strftime_now": _now,
}
