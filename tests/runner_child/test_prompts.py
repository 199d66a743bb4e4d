"""Prompts before they are tokens: BOS, which is the tokenizer's to add."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollamad.prompt.render import ChatTemplate
from ollamad.runner_child.prompts import PromptMaker
from ollamad.testing.fake_backend import FakeModel
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import BOS, FakeOptions
from ollamad.types import Message, SamplingParameters
from ollamad.wire.messages import Chat, Generate

PLAIN = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


def maker(*, bos: bool = True, ctx_len: int = 64, template: str = PLAIN, **metadata: str) -> PromptMaker:
    model = FakeModel(FakeOptions(adds_bos=bos), Gates())
    names = {f"tokenizer.ggml.{name}": value for name, value in metadata.items()}
    model.description = replace(model.description, metadata=names)
    facts = model.description
    return PromptMaker(model, ChatTemplate(template, bos_text=facts.bos_text, eos_text=facts.eos_text), ctx_len)


@pytest.mark.parametrize(
    ("bos", "metadata", "text", "sent"),
    [
        (False, {}, "<bos><|turn>", "<bos><|turn>"),
        (True, {}, "<bos><start_of_turn>", "<start_of_turn>"),
        (True, {}, "<s><|im_start|>", "<|im_start|>"),
        (True, {}, "<|startoftext|>x", "<|startoftext|>x"),
        (False, {}, "<bos>x", "<bos>x"),
        (True, {}, "<bos>hello<bos>", "hello<bos>"),
        (False, {"pre": "gemma4"}, "<bos>x", "x"),
        (False, {"model": "gemma4"}, "<bos>x", "x"),
        (False, {"pre": "lfm2"}, "<s>x", "x"),
    ],
    ids=["BOS-01", "BOS-02", "BOS-03", "BOS-04", "BOS-05", "BOS-06", "BOS-07", "BOS-08", "BOS-09 BOS-10"],
)
def test_one_leading_bos_is_left_to_the_tokenizer(bos: bool, metadata: dict[str, str], text: str, sent: str) -> None:
    """Where the tokenizer adds its own, a BOS text in front of the prompt is removed, once."""
    assert maker(bos=bos, **metadata).without_bos(text) == sent


def test_a_template_s_bos_is_not_doubled() -> None:
    """One BOS token, however the template begins."""
    prompt = maker().make(Chat((Message("user", "ab"),)), shift=True)
    assert prompt.tokens == [BOS, *b"ab"]


def test_tokens_of_an_earlier_answer_go_first() -> None:
    """Their BOS is not doubled either."""
    prompt = maker().make(Generate("cd", prefix_tokens=(BOS, *b"ab")), shift=True)
    assert prompt.text == "abcd"
    assert prompt.tokens == [BOS, *b"abcd"]


def test_the_smaller_context_counts() -> None:
    """PT-21, PT-22: of the loaded and the requested num_ctx."""
    made = maker(ctx_len=64)
    assert [made.num_ctx(asked) for asked in (0, 32, 64, 100)] == [64, 32, 64, 64]


def test_a_short_text_is_never_cut() -> None:
    """Fewer bytes than num_ctx cannot be too many tokens; one more is cut, with BOS kept beside num_keep."""
    task = Generate("x" * 63, parameters=SamplingParameters(num_keep=4))
    assert maker().make(task, shift=True).cut == 0
    longer = maker().make(replace(task, prompt="x" * 64), shift=True)
    assert (len(longer.tokens), longer.cut) == (35, 30)
    assert maker().make(replace(task, prompt="x" * 64, truncate=False), shift=True).cut == 0
