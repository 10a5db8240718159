"""A calculator: arithmetic as people write it, exact where it can be, and nothing else."""

from __future__ import annotations

import ast
import decimal
import math
import operator
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from nemotron_gguf.ui.tools.errors import ToolError

LONGEST = 1000  # characters of an expression
BITS = 14_000  # of a number's numerator or denominator: about 4,200 digits
DIGITS = 15  # of a result that is no whole number
MOST = 1000  # what factorial, comb and perm take

Number: TypeAlias = int | float | Fraction

_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_ROUNDING: Mapping[str, Callable[..., Any]] = {
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
}
_EXACT: Mapping[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max, **_ROUNDING}
_WHOLE = {name: getattr(math, name) for name in ("factorial", "comb", "perm", "gcd", "lcm", "isqrt")}
_REAL = {
    name: getattr(math, name)
    for name in (
        "sqrt", "cbrt", "exp", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "asin", "acos", "atan",
        "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "hypot", "fmod",
    )
}  # fmt: skip


class Calculator:
    """Evaluates an expression."""

    name = "calculator"
    description = (
        "Evaluate an arithmetic expression and return the number. Operators: + - * / // % ** (^ is a power too), and"
        f" parentheses. Functions: {', '.join([*_EXACT, *_WHOLE, *_REAL])} (angles in radians). Constants: pi, e, tau."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "For example: (3 + 4) * 2 ** 10 / 7"}},
        "required": ["expression"],
        "additionalProperties": False,
    }
    acts = False

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """The number."""
        del stopped  # it is too quick to be stopped
        return shown(evaluate(str(arguments["expression"])))


def evaluate(expression: str) -> Number:
    """The value of an expression. Raises ToolError for one that is none, too long or too large."""
    text = expression.strip().replace("×", "*").replace("÷", "/").replace("−", "-").replace("^", "**")
    if len(text) > LONGEST:
        raise ToolError(f"the expression has {len(text)} characters, at most {LONGEST} can be evaluated")
    try:
        return _value(ast.parse(text, mode="eval").body)
    except ZeroDivisionError as error:
        raise ToolError(f"{text[:80]} divides by zero") from error
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ToolError(f"{text[:80]!r} is no arithmetic expression") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise ToolError(f"{text[:80]} has no value: {error}") from error


def shown(value: Number) -> str:
    """A number for people: whole ones in full, others with 15 significant digits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("the result is no number: it is infinite or undefined")
    exact = Fraction(value)
    if exact.denominator == 1 and (not isinstance(value, float) or abs(value) < 1e15):
        return str(exact.numerator)
    context = decimal.Context(prec=DIGITS)
    shortened = context.divide(decimal.Decimal(exact.numerator), decimal.Decimal(exact.denominator))
    return str(shortened.normalize(context)).replace("E", "e")


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _bounded(Fraction(repr(node.value)) if isinstance(node.value, float) else node.value)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _bounded(_SIGNS[type(node.op)](_value(node.operand)))
    if isinstance(node, ast.BinOp):
        return _bounded(_binary(node.op, _value(node.left), _value(node.right)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _bounded(_function(node.func.id, [_value(argument) for argument in node.args]))
    raise ToolError(f"{ast.unparse(node)[:80]!r} cannot be calculated; expected numbers, operators and functions")


def _binary(sign: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(sign, ast.Pow):
        return _power(left, right)
    if isinstance(sign, ast.Div):
        return Fraction(left) / right if not isinstance(left, float) and not isinstance(right, float) else left / right
    plain: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }
    if type(sign) not in plain:
        raise ToolError(f"there is no operator {type(sign).__name__}; expected + - * / // % **")
    return plain[type(sign)](left, right)


def _power(base: Number, exponent: Number) -> Number:
    """A power, whose size is known before it is computed."""
    exact = Fraction(exponent) if not isinstance(exponent, float) else None
    if exact is not None and exact.denominator == 1 and not isinstance(base, float):
        size = _bits(base) * abs(exact.numerator)
        if size > BITS and abs(base) not in (0, 1):
            raise ToolError(f"the power is too large: it would have about {size * 3 // 10:,} digits")
        return Fraction(base) ** exact.numerator
    result: float | complex = float(base) ** float(exponent)
    if isinstance(result, complex):
        raise ToolError("a root of a negative number is no real number")
    return result


def _function(name: str, values: list[Number]) -> Number:
    if name == "round" and len(values) > 1:
        if not -DIGITS * 20 <= values[1] <= DIGITS * 20:
            raise ToolError(f"round takes up to {DIGITS * 20} digits")
        return round(Fraction(values[0]), int(values[1]))
    if name in _EXACT:
        result: Number = _EXACT[name](*values)
        return result
    if name in _WHOLE:
        whole = [Fraction(value) for value in values]
        if any(value.denominator != 1 for value in whole):
            raise ToolError(f"{name} takes whole numbers")
        if name in ("factorial", "comb", "perm") and any(abs(value) > MOST for value in whole):
            raise ToolError(f"{name} takes numbers up to {MOST}")
        return int(_WHOLE[name](*(value.numerator for value in whole)))
    if name in _REAL:
        return float(_REAL[name](*map(float, values)))
    raise ToolError(f"there is no function {name[:40]!r}; there are: {', '.join([*_EXACT, *_WHOLE, *_REAL])}")


def _bits(value: Number) -> int:
    exact = Fraction(value)
    return max(exact.numerator.bit_length(), exact.denominator.bit_length())


def _bounded(value: Number) -> Number:
    if not isinstance(value, float) and _bits(value) > BITS:
        raise ToolError(f"a number has more than {BITS * 3 // 10:,} digits, which is too large")
    return value
