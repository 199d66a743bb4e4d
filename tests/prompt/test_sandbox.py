"""A hostile template takes neither secrets nor time nor memory."""

from __future__ import annotations

import threading
import time

import pytest

from ollamad.prompt.render import ChatTemplate, TemplateFailed
from ollamad.prompt.sandbox import OutOfTime, run
from ollamad.types import Message

USER = (Message("user", "a"),)
DOUBLE = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = STEP %}{% endfor %}{{ ns.s }}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ self.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_nothing_outside_can_be_reached(source: str) -> None:
    """Attribute tricks, changes of the messages and other files are refused."""
    try:
        text = ChatTemplate(source).render(USER)
    except TemplateFailed:
        return
    assert text == ""  # an unsafe attribute is undefined


@pytest.mark.parametrize(
    "source",
    [
        DOUBLE.replace("STEP", "ns.s ~ ns.s"),
        DOUBLE.replace("STEP", "ns.s + ns.s"),
        DOUBLE.replace("STEP", "ns.s * 2"),
        DOUBLE.replace("STEP", "[ns.s, ns.s] | join"),
        DOUBLE.replace("STEP", "ns.s.replace('x', 'xx')"),
        DOUBLE.replace("STEP", "'%s%s' | format(ns.s, ns.s)"),
        DOUBLE.replace("STEP", "'{0}{0}'.format(ns.s)"),
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}"
        "{% set ns.s = t %}{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ 'x'.center(10 ** 9) }}",
        "{{ 'x' | center(10 ** 5 * 10 ** 5) }}",
        "{{ 'x'.zfill(999999999) }}",
        "{{ 'x\ny' | indent(999999999) }}",
        "{{ [1] | tojson(indent=999999999) }}",
        "{{ lipsum(n=100000) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_memory_is_bounded(source: str) -> None:
    """Whatever grows is stopped long before it hurts."""
    with pytest.raises(TemplateFailed):
        ChatTemplate(source).render(USER)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = i * j %}{% endfor %}{% endfor %}",
    ],
)
def test_time_is_bounded(source: str) -> None:
    """A loop that would take hours ends at the limit, and its thread ends with it."""
    started = time.monotonic()
    with pytest.raises(TemplateFailed, match=r"longer than 0\.1 s"):
        ChatTemplate(source, timeout_s=0.1).render(USER)
    assert time.monotonic() - started < 2
    for thread in threading.enumerate():
        if thread.name == "template":
            thread.join(5)
            assert not thread.is_alive()


def test_run_hands_on_results_and_errors() -> None:
    """What the work returns or raises is what the caller sees."""
    assert run(lambda: 7, 5) == 7
    with pytest.raises(KeyError):
        run(lambda: {}["x"], 5)

    def endless() -> None:
        while True:
            pass

    with pytest.raises(OutOfTime):
        run(endless, 0.01)


def test_waiting_for_a_processor_is_not_counted() -> None:
    """The limit is on work done, so a busy machine cuts no template short; but nobody waits for ever."""
    gate = threading.Event()
    threading.Timer(0.2, gate.set).start()
    assert run(gate.wait, 0.05)
    with pytest.raises(OutOfTime):
        run(lambda: threading.Event().wait(5), 0.01)
