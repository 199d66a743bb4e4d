"""Chat templates: what reaches them, and what comes out."""

from __future__ import annotations

from importlib.resources import files

import pytest

from ollamad.gguf.read import read_header
from ollamad.prompt.render import CHATML, ChatTemplate, InvalidMessages, TemplateFailed
from ollamad.types import Message

USER, ANSWER, AGAIN = Message("user", "a"), Message("assistant", "b"), Message("user", "c")
NO_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def demo() -> ChatTemplate:
    """The template in the demo model's file."""
    with (files("ollamad") / "_data" / "demo.gguf").open("rb") as file:
        source = read_header(file.name).metadata["tokenizer.chat_template"]
    return ChatTemplate(source, bos_text="<|endoftext|>", eos_text="<|im_end|>")


def show(source: str, *messages: Message, think: bool | str | None = None) -> str:
    return ChatTemplate(source, bos_text="<s>", eos_text="</s>").render(messages or (USER,), think=think)


@pytest.mark.parametrize(
    ("messages", "think", "expected"),
    [
        ((Message("user", "Hello"),), None, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT),
        ((USER,), False, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n" + NO_THOUGHT),
        ((USER,), True, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        ((USER,), "high", "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        (
            (USER, Message("assistant", "My name is")),
            None,
            f"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{NO_THOUGHT}My name is",
        ),
        (
            (Message("system", "S"), USER, ANSWER, AGAIN),
            False,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            f"<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n{NO_THOUGHT}",
        ),
        (
            (Message("critic", "Ping"), USER),
            False,
            f"<|im_start|>critic\nPing<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{NO_THOUGHT}",
        ),
    ],
    ids=["user", "think off", "think on", "think level", "prefill", "turns", "unknown role"],
)
def test_the_demo_template_renders_as_recorded(
    demo: ChatTemplate, messages: tuple[Message, ...], think: bool | str | None, expected: str
) -> None:
    """The prompts of the recordings come out of the file's own template."""
    assert demo.render(messages, think=think) == expected


def test_a_call_and_its_result_go_through_the_demo_template(demo: ChatTemplate) -> None:
    """Arguments reach the template as JSON text, thinking does not, a tool's text does."""
    call = {"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages = (
        Message("user", "Weather?"),
        Message("assistant", "", thinking="hidden", tool_calls=(call,)),
        Message("tool", "12 degrees", tool_name="get_weather", tool_call_id="call_1"),
    )
    assert demo.render(messages, think=True) == (
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n12 degrees\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("source", [None, "", "  \n"])
def test_without_a_template_it_is_chatml(source: str | None) -> None:
    """A file without a template gets the common one."""
    text = ChatTemplate(source).render((Message("user", "Ping"),))
    assert text == "<|im_start|>user\nPing<|im_end|>\n<|im_start|>assistant\n"
    assert CHATML


def test_what_a_message_looks_like_in_a_template() -> None:
    """Objects have the shape of OpenAI's API; absent fields do not exist."""
    call = {"function": {"name": "f", "arguments": {"x": [1, "ä<"]}}}
    messages = (USER, Message("assistant", "", tool_calls=(call,)), Message("tool", "r", (), tool_name="f"))
    assert show("{{ messages | tojson }}", *messages) == (
        '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", '
        '"function": {"name": "f", "arguments": "{\\"x\\": [1, \\"ä<\\"]}"}}]}, '
        '{"role": "tool", "content": "r", "name": "f"}]'
    )


def test_thinking_is_passed_only_when_it_is_set() -> None:
    """None leaves the variable undefined, a level brings a second one."""
    source = "{{ enable_thinking is defined }} {{ enable_thinking }} {{ reasoning_effort }}"
    assert show(source) == "False  "
    assert show(source, think=False) == "True False "
    assert show(source, think=True) == "True True "
    assert show(source, think="low") == "True True low"


def test_white_space_of_blocks_is_trimmed() -> None:
    """Templates are written for trim_blocks and lstrip_blocks."""
    assert show("{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}") == "a\n"


def test_what_templates_of_publishers_use() -> None:
    """BOS and EOS texts, loop controls, the date, generation marks and methods of texts are there."""
    assert show("{{ bos_token }}{% for m in messages %}{{ m['content'].strip() }}{% break %}{% endfor %}") == "<s>a"
    assert len(show("{{ strftime_now('%Y-%m-%d') }}")) == 10
    assert show("{% generation %}x{{ eos_token }}{% endgeneration %}") == "x</s>"
    assert show("{{ '%s-%02d' | format('a', 7) }}{{ ' {}'.format(1) }}") == "a-07 1"
    assert (
        show("{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}")
        == "3"
    )
    assert show("{{ tools is none }}") == "True"


def test_a_system_message_reaches_a_template_that_refuses_it() -> None:
    """Its text goes in front of the next user message."""
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    assert show(source, Message("system", "S"), USER, ANSWER, AGAIN) == "[user:S\na][assistant:b][user:c]"
    assert show(source, Message("system", "S")) == "[user:S]"


def test_the_template_s_own_words_are_the_error() -> None:
    """raise_exception becomes a failure with its text."""
    with pytest.raises(TemplateFailed, match=r"^roles must alternate$"):
        show("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    ["{{ a b }}", "{% for %}", "{{ 1 / 0 }}", "{{ messages[9].role.upper() }}", "{{ missing.x.y }}", "{{ [] + 1 }}"],
)
def test_a_broken_template_fails_clearly(source: str) -> None:
    """Syntax errors and errors at run time are failures of the template, nothing else."""
    with pytest.raises(TemplateFailed):
        show(source)


def test_two_answers_at_the_end_cannot_be_continued() -> None:
    """Nor can an empty conversation."""
    with pytest.raises(InvalidMessages, match="2 or more assistant messages"):
        show("x", USER, ANSWER, ANSWER)
    with pytest.raises(InvalidMessages):
        ChatTemplate("x").render(())
