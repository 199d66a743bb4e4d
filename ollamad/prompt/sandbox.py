"""Jinja for templates that strangers wrote: no attribute tricks, and no way to take all time or memory.

What a template may do is bounded in three ways: every text it builds (`MAX_TEXT_BYTES`), every number that it
gives to a function or filter, such as a width or a count (`MAX_NUMBER`), and its time, which `run` enforces
from outside. Not for the daemon: it imports jinja2.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT_BYTES = 16 * 1024 * 1024
#: No template has a reason for a wider column or a longer loop.
MAX_NUMBER = 100_000
#: A ``replace`` or ``join`` may come to this many characters before it is seen to be too long.
MAX_PRODUCT = 16 * MAX_TEXT_BYTES
#: A template that gets no processor, on a busy machine, may take this many times its limit by the clock.
_PATIENCE = 10
_WIDE_FORMAT = re.compile(r"\d{6}|%[^%a-zA-Z]*\*")

T = TypeVar("T")


class TemplateRaised(Exception):
    """The template called ``raise_exception``; ``str()`` is its message."""


class OutOfTime(Exception):
    """The template ran longer than it may."""


class _Interrupt(BaseException):
    """Thrown into the template's thread; no ``except Exception`` on the way catches it."""


def run(work: Callable[[], T], timeout_s: float) -> T:
    """Run *work* in a thread of its own and return its result, or raise what it raised.

    Time is what the thread had of a processor, where that can be told: neighbours do not use it up.

    Raises:
        OutOfTime: It took longer. The thread is interrupted at its next Python instruction; it holds
            nothing that anyone else needs.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    clocks: list[int] = []

    def body() -> None:
        try:
            if hasattr(time, "pthread_getcpuclockid"):  # not on macOS
                clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="template", daemon=True)
    until = time.monotonic() + _PATIENCE * timeout_s
    thread.start()
    thread.join(timeout_s)
    while thread.is_alive() and clocks and time.monotonic() < until and (left_s := timeout_s - _used_s(clocks[0])) > 0:
        thread.join(left_s)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Interrupt))
        raise OutOfTime
    if errors:
        raise errors[0]
    return results[0]


def _used_s(clock: int) -> float:
    """Processor time of a thread; 0 when it has just ended."""
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


class _Generation(Extension):
    """``{% generation %}`` marks what to train on; its body is kept. Source: transformers, chat templates."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Checked(CodeGenerator):
    """``a ~ b`` goes through `Sandbox.join_checked`, else two operands could double a text for ever."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.join_checked((")
        for one in node.nodes:
            self.visit(one, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """As transformers and llama.cpp set up Jinja for chat templates, with the bounds of this module."""

    code_generator_class = _Checked
    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation], cache_size=0
        )
        self.globals.pop("lipsum")
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        self.filters["tojson"] = _tojson
        self.filters["format"] = _format
        self.filters = {name: _bounded(one) for name, one in self.filters.items()}
        # Compiled templates join their output with this one.
        self.concat = self.join_checked  # type: ignore[method-assign]

    def join_checked(self, parts: Iterable[Any]) -> str:
        """Join the texts of *parts*."""
        texts, size = [], 0
        for part in parts:
            texts.append(str(part))
            size += len(texts[-1])
            _check_size(size)
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _check_number(left)
            _check_number(right)
        elif operator == "*":
            self._check_repetition(left, right)
            self._check_repetition(right, left)
        elif operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            _check_size(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    @staticmethod
    def _check_repetition(value: Any, times: Any) -> None:
        if isinstance(value, str | bytes | list | tuple) and isinstance(times, int):
            _check_size(len(value) * max(times, 0))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _check_arguments(getattr(function, "__self__", None), args, kwargs)
        result = super().call(context, function, *args, **kwargs)
        if isinstance(result, str):
            _check_size(len(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped


def _check_size(size: int) -> None:
    if size > MAX_TEXT_BYTES:
        raise SecurityError(f"the template makes a text of more than {MAX_TEXT_BYTES} characters")


def _check_number(value: Any) -> None:
    if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
        raise SecurityError(f"the template asks for a number over {MAX_NUMBER}")


def _check_format(text: str) -> None:
    """A format may ask for any width, in digits or by ``*``."""
    if _WIDE_FORMAT.search(text):
        raise SecurityError("the template formats with too wide a column")


def _check_arguments(receiver: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Numbers must be small; and where each part of *receiver* may become one argument, so must their product."""
    size = len(receiver) if isinstance(receiver, str | list | tuple) else 0
    for value in (*args, *kwargs.values()):
        _check_number(value)
        if isinstance(value, str | list | tuple) and size * len(value) > MAX_PRODUCT:
            raise SecurityError("the template combines texts that are too long")


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments beyond the value are small numbers, and whose text is not too long."""
    passed = getattr(function, "jinja_pass_arg", None)
    leading = 1 if passed is None else 2

    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_arguments(args[leading - 1], args[leading:], kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, str):
            _check_size(len(result))
        return result

    if passed is not None:
        checked.jinja_pass_arg = passed  # type: ignore[attr-defined]
    if getattr(function, "jinja_async_variant", None):
        checked.jinja_async_variant = True  # type: ignore[attr-defined]
    return checked


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRaised(str(message))


def _format(text: Any, /, *args: Any, **kwargs: Any) -> str:
    """Jinja's ``format`` without wide columns."""
    _check_format(str(text))
    return str(text) % (kwargs or args)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Python prints it, without Jinja's escapes for HTML. Source: transformers, chat templates."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
