"""A real runner process, from the first message to its end, with the demo model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from real_runner import DEMO, ENVIRONMENT, Child, demo_spec
from tiny_bert import write_tiny_bert

from ollamad.types import Message, SamplingParameters, WeightsRef
from ollamad.wire.messages import (
    Cancel,
    Chat,
    Count,
    Delta,
    Detokenize,
    Done,
    Embed,
    Failed,
    Generate,
    Hello,
    Load,
    LoadSpec,
    Pause,
    Ping,
    Pong,
    Progress,
    Ready,
    Render,
    Rerank,
    Restore,
    Save,
    Stop,
    Submit,
    Tokenize,
)

GREEDY = SamplingParameters(temperature=0)
NO_THOUGHT = "<think>\n\n</think>\n\n"
EVAL = Path(__file__).resolve().parents[2] / "demo-model" / "eval.json"


#: At temperature 0 the demo model counts on for hundreds of tokens.
LONG = Chat((Message("user", "Count from 1 to 100."),), GREEDY)


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def chat(text: str, **options: object) -> Chat:
    return Chat(user(text), SamplingParameters(**({"temperature": 0} | options)))  # type: ignore[arg-type]


def generate(text: str, *, wants_context: bool = True, prefix: tuple[int, ...] = (), **options: object) -> Generate:
    parameters = SamplingParameters(**({"temperature": 0} | options))  # type: ignore[arg-type]
    return Generate("", user(text), prefix, parameters, think=False, wants_context=wants_context)


def spoken() -> list[tuple[tuple[Message, ...], str]]:
    """Conversations of the demo model's table whose answers are plain text."""
    pairs = []
    for one in json.loads(EVAL.read_text()):
        messages = one.get("messages", ())
        plain = all(set(message) == {"role", "content"} and message["role"] != "tool" for message in messages)
        if messages and plain and not one.get("think") and not one.get("tools"):
            pairs.append((tuple(Message(**message) for message in messages), one["expected"]["content"]))
    return pairs[::6]


def test_ready_tells_the_model(start: Callable[..., Child]) -> None:
    """A load reports progress, then what was granted and what it takes."""
    child = start()
    child.greet()
    child.send(Load(demo_spec(slots=3)))
    assert isinstance(child.receive(), Progress)
    ready = child.receive_until(Ready)
    assert isinstance(ready, Ready)
    assert (ready.ctx_len, ready.slots, ready.n_batch, ready.n_ctx_train) == (2048, 3, 512, 2048)
    assert (ready.n_vocab, ready.n_embd, ready.adds_bos, ready.has_chat_template) == (2048, 256, False, True)
    assert ready.threads >= 1
    assert ready.load_ns > 0
    (memory,) = ready.memory
    assert memory.kv_bytes == 3 * 2048 * 6 * 2 * 128 * 2
    assert min(memory.weights_bytes, memory.compute_bytes) > 0


@pytest.mark.parametrize(("messages", "expected"), spoken())
def test_the_demo_model_answers_as_measured(demo: Child, messages: tuple[Message, ...], expected: str) -> None:
    """At temperature 0 the answer is, letter by letter, the one in the demo model's own table."""
    texts, done = demo.ask("a", Chat(messages, GREEDY))
    assert "".join(texts) == expected
    assert isinstance(done, Done)
    assert done.reason == "stop"


def test_every_token_is_a_delta(demo: Child) -> None:
    """The recorded stream: a piece per token; the end-of-generation token counts and shows nothing."""
    texts, done = demo.ask("a", generate("Count from 1 to 10.", num_predict=5))
    assert texts == ["1", ",", " ", "2", ","]
    assert isinstance(done, Done)
    assert (done.reason, done.timings.prompt_tokens, done.timings.generated_tokens) == ("length", 21, 5)
    texts, done = demo.ask("b", chat("Ping"))
    assert isinstance(done, Done)
    assert (texts, done.reason, done.timings.generated_tokens) == (["p", "ong"], "stop", 3)


@pytest.mark.parametrize(
    ("stop", "text", "generated"),
    [("5", "1, 2, 3, 4, ", 13), ("5, 6", "1, 2, 3, 4, ", 16), ("zzz", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10", 30)],
)
def test_a_stop_string_ends_the_answer(demo: Child, stop: str, text: str, generated: int) -> None:
    """Text and count of tokens are those of the recording; nothing of the stop string is sent."""
    texts, done = demo.ask("a", generate("Count from 1 to 10.", stop=(stop,)))
    assert "".join(texts) == text
    assert isinstance(done, Done)
    assert done.reason == "stop"
    if stop != "zzz":
        assert done.timings.generated_tokens == generated


def test_a_half_stop_string_is_delivered(demo: Child) -> None:
    """What might have become a stop string comes in one piece at the end."""
    texts, done = demo.ask("a", generate("Ping", stop=("pong!!",)))
    assert texts == ["pong"]
    assert isinstance(done, Done)
    assert done.tokens == (2035, 280, 198, 47, 448, 2036, 198, 2035, 282, 198, 2040, 256, 2041, 256, 79, 495)


def test_zero_to_predict(demo: Child) -> None:
    """Recorded: one token for a chat, no limit for a prompt."""
    texts, done = demo.ask("a", chat("Ping", num_predict=0))
    assert isinstance(done, Done)
    assert (texts, done.reason, done.timings.generated_tokens) == (["p"], "length", 1)
    texts, done = demo.ask("b", generate("Ping", num_predict=0))
    assert isinstance(done, Done)
    assert ("".join(texts), done.reason) == ("pong", "stop")


def test_the_context_continues_a_talk(demo: Child) -> None:
    """Token ids of prompt and answer, given back, are as recorded and are remembered."""
    _, first = demo.ask("a", generate("My name is Ada."))
    assert isinstance(first, Done)
    assert first.tokens[-8:] == (1458, 1412, 11, 220, 32, 67, 64, 0)
    assert len(first.tokens) == 30
    texts, second = demo.ask("b", generate("What is my name?", prefix=first.tokens))
    assert "".join(texts) == "Your name is Ada."
    assert isinstance(second, Done)
    assert second.timings.prompt_tokens == 47
    assert second.tokens[:30] == first.tokens
    assert second.tokens[-9:] == (256, 609, 1421, 1401, 220, 32, 67, 64, 13)


@pytest.mark.parametrize("token", [99_999_999, 2048, -5])
def test_a_number_that_is_no_token_is_refused(demo: Child, token: int) -> None:
    """The native code would end the process; the runner says which number it is and lives."""
    _, failed = demo.ask("a", generate("hi", prefix=(token,)))
    assert isinstance(failed, Failed)
    assert failed.kind == "internal"
    assert f"detokenize error: token {token}" in failed.message
    assert isinstance(demo.ask("b", Detokenize((token,)))[1], Failed)


def test_a_raw_prompt_is_sent_as_it_is(demo: Child) -> None:
    """Without messages no template is used."""
    _, done = demo.ask("a", Render(Generate("The capital of France is")))
    assert isinstance(done, Done)
    assert (done.text, done.count) == ("The capital of France is", 7)


def test_the_last_assistant_message_is_continued(demo: Child) -> None:
    """Chat, prefilled: only the rest of the answer comes."""
    messages = (*user("Count from 1 to 10."), Message("assistant", "1, 2, 3,"))
    texts, done = demo.ask("a", Chat(messages, GREEDY))
    assert "".join(texts) == " 4, 5, 6, 7, 8, 9, 10"
    assert isinstance(done, Done)
    assert (done.timings.prompt_tokens, done.timings.generated_tokens) == (25 + 4, 22)


def test_a_long_talk_loses_its_oldest_messages(demo: Child) -> None:
    """Messages are dropped until the rest fits into the num_ctx of the request."""
    filler = Message("user", "word " * 150), Message("assistant", "Yes.")
    messages = (Message("system", "You are Bo."), *filler, *filler, *user("My name is Ada."), *user("Ping"))
    _, done = demo.ask("a", Render(Chat(messages, GREEDY, num_ctx=100)))
    assert isinstance(done, Done)
    assert done.messages_dropped == 4 - 1
    assert done.text.startswith("<|im_start|>system\nYou are Bo.<|im_end|>\n<|im_start|>assistant\nYes.")
    _, done = demo.ask("b", Render(Chat(messages, GREEDY, num_ctx=100, truncate=False)))
    assert isinstance(done, Done)
    assert done.messages_dropped == 0


def test_a_long_prompt_is_cut_or_refused(demo: Child) -> None:
    """Tokens go out of the middle with shift, without it the contract's error comes."""
    task = Generate("word " * 300, parameters=SamplingParameters(temperature=0, num_keep=4), num_ctx=64)
    _, done = demo.ask("a", Render(task))
    assert isinstance(done, Done)
    assert done.count == 34
    assert done.prompt_cut_tokens > 200
    _, failed = demo.ask("b", Generate("word " * 300, num_ctx=64, shift=False))
    assert isinstance(failed, Failed)
    assert failed.kind == "too_long"
    assert failed.message.startswith("the prompt is longer than the context length currently available")


def test_a_chat_that_does_not_fit_is_refused_by_the_engine(demo: Child) -> None:
    """The words are llama-server's."""
    _, failed = demo.ask("a", chat("word " * 3000))
    assert isinstance(failed, Failed)
    assert failed.kind == "too_long"
    assert "exceeds the available context size (2048 tokens)" in failed.message


@pytest.mark.parametrize(
    "options",
    [{"repeat_penalty": 0.0}, {"repeat_penalty": float("inf")}, {"repeat_last_n": -2}, {"temperature": float("nan")}],
)
def test_values_that_the_samplers_cannot_take(demo: Child, options: dict[str, float]) -> None:
    """They are refused before native code sees them."""
    _, failed = demo.ask("a", chat("Ping", **options))
    assert isinstance(failed, Failed)
    assert failed.kind == "invalid"


def test_two_answers_at_the_end_are_refused(demo: Child) -> None:
    """A conversation that cannot be continued is the client's fault."""
    messages = (*user("a"), Message("assistant", "b"), Message("assistant", "c"))
    _, failed = demo.ask("a", Chat(messages))
    assert isinstance(failed, Failed)
    assert failed.kind == "invalid"


def test_small_tasks(demo: Child) -> None:
    """Tokens, texts and counts."""
    _, done = demo.ask("a", Tokenize("Ping"))
    assert isinstance(done, Done)
    assert (done.tokens, done.count) == ((47, 448), 2)
    _, done = demo.ask("b", Detokenize((2035, 47, 448)))
    assert isinstance(done, Done)
    assert done.text == "<|im_start|>Ping"
    _, done = demo.ask("c", Count("Ping"))
    assert isinstance(done, Done)
    assert done.count == 2
    _, done = demo.ask("d", Count(messages=user("Ping")))
    assert isinstance(done, Done)
    assert done.count == 14


@pytest.mark.parametrize("task", [Rerank("q", ("d",)), Save("x"), Restore("x")])
def test_a_task_of_later_versions_is_unknown(demo: Child, task: Rerank | Save | Restore) -> None:
    """It fails by name, and the runner goes on."""
    _, failed = demo.ask("a", task)
    assert isinstance(failed, Failed)
    assert failed.kind == "unknown_task"


def test_streams_beside_each_other_are_each_right(demo: Child) -> None:
    """Eight conversations on two slots: every history has its own answer."""
    cities = ("Rome", "Oslo", "Lima", "Cairo", "Paris", "Tokyo", "Delhi", "Quito")
    for city in cities:
        demo.send(Submit(city, Chat(user(f"What is the capital of {city}?"), GREEDY)))
    beside = _collect(demo, cities)
    for city in cities:
        texts, _ = demo.ask(f"{city}-alone", Chat(user(f"What is the capital of {city}?"), GREEDY))
        assert "".join(texts) == beside[city]


def _collect(child: Child, ids: tuple[str, ...]) -> dict[str, str]:
    texts = dict.fromkeys(ids, "")
    open_ids = set(ids)
    while open_ids:
        message = child.receive_until(Delta, Done, Failed)
        assert isinstance(message, Delta | Done)
        if isinstance(message, Delta):
            texts[message.request_id] += message.text
        else:
            open_ids.remove(message.request_id)
    return texts


def test_a_cancelled_answer_ends_at_once(demo: Child) -> None:
    """Cancel frees the slot within a step, and the next request is served."""
    demo.send(Submit("long", LONG))
    demo.receive_until(Delta)
    demo.send(Cancel("long"))
    _, failed = demo.collect("long")
    assert isinstance(failed, Failed)
    assert failed.kind == "cancelled"
    texts, _ = demo.ask("next", chat("Ping"))
    assert "".join(texts) == "pong"


def test_an_id_can_be_cancelled_before_and_after(demo: Child) -> None:
    """A cancel right behind the submit ends it; one that comes too late or for nothing is ignored."""
    demo.send(Submit("a", chat("Count from 1 to 10.")))
    demo.send(Cancel("a"))
    _, end = demo.collect("a")
    assert isinstance(end, Failed | Done)
    demo.send(Cancel("a"))
    demo.send(Cancel("never"))
    texts, _ = demo.ask("a", chat("Ping"))
    assert "".join(texts) == "pong"


def test_a_paused_answer_waits(demo: Child) -> None:
    """No token comes while it is paused; then the answer goes on where it was."""
    demo.send(Pause("unknown", True))
    demo.send(Submit("a", chat("Count from 1 to 10.")))
    demo.send(Pause("a", True))
    texts, _ = demo.ask("other", chat("Ping"))
    assert "".join(texts) == "pong"
    demo.send(Pause("a", False))
    _, done = demo.collect("a")
    assert isinstance(done, Done)
    assert done.timings.generated_tokens == 30


def test_ping_is_answered_with_counters(demo: Child) -> None:
    """The number comes back, and the counters only grow."""
    demo.send(Ping(7))
    first = demo.receive_until(Pong)
    demo.ask("a", chat("Ping"))
    demo.send(Ping(8))
    second = demo.receive_until(Pong)
    assert isinstance(first, Pong)
    assert isinstance(second, Pong)
    assert (first.number, second.number) == (7, 8)
    assert second.step > first.step
    assert second.decoded_tokens >= first.decoded_tokens + 3
    assert second.cells_total == 4096


def test_the_chat_model_embeds(demo: Child) -> None:
    """A chat model has vectors too, of length 1; the empty text has one without length."""
    _, done = demo.ask("a", Embed(("Hello", "", "Hello")))
    assert isinstance(done, Done)
    vectors = [array("f", data).tolist() for data in done.vectors]
    assert len(vectors[0]) == 256
    assert sum(number * number for number in vectors[0]) == pytest.approx(1, abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
    assert set(vectors[1]) == {0.0}
    assert done.count == 2


def encoder(child: Child, store: Path) -> LoadSpec:
    blobs = store / "blobs"
    blobs.mkdir()
    path = write_tiny_bert(blobs / "sha256-bert")
    ref = WeightsRef("sha256:bert", path.stat().st_size)
    return LoadSpec("llama-cpu", (ref,), ctx_len=64, n_batch=64, threads=1, embedding=True)


def test_an_encoder_embeds_and_does_not_chat(start: Callable[..., Child], tmp_path: Path) -> None:
    """A file of the store by its digest; vectors in order, long inputs cut or refused, chat refused."""
    child = start()
    ready = child.load(encoder(child, tmp_path))
    assert isinstance(ready, Ready)
    assert (ready.n_embd, ready.adds_bos, ready.adds_eos) == (32, True, True)
    _, one = child.ask("a", Embed(("a b c",)))
    _, many = child.ask("b", Embed(("b", "a b c", "")))
    assert isinstance(one, Done)
    assert isinstance(many, Done)
    assert array("f", many.vectors[1]).tolist() == pytest.approx(array("f", one.vectors[0]).tolist(), abs=1e-3)
    assert (one.count, many.count) == (5, 3 + 5 + 2)
    long = "a " * 200
    _, cut = child.ask("c", Embed((long,)))
    assert isinstance(cut, Done)
    assert cut.count == 64
    _, refused = child.ask("d", Embed(("a", long), truncate=False))
    assert refused == Failed("d", "too_long", "the input length exceeds the context length")
    _, nothing = child.ask("e", Embed((long,), num_ctx=2))
    assert nothing == Failed("e", "too_long", "input after truncation exceeds maximum context length")
    _, chatted = child.ask("f", chat("Ping"))
    assert isinstance(chatted, Failed)
    assert chatted.kind == "invalid"


@pytest.mark.parametrize("num_ctx", [4, 5, 257])
def test_odd_contexts(start: Callable[..., Child], num_ctx: int) -> None:
    """Any context length loads; a slot holds that much, rounded up to 256 as llama-server has it."""
    child = start()
    ready = child.load(demo_spec(ctx_len=num_ctx, slots=2))
    assert isinstance(ready, Ready)
    assert ready.ctx_len == num_ctx
    texts, done = child.ask("a", Generate("1, 2, 3, 4, 5,", parameters=GREEDY, shift=False, truncate=False))
    assert isinstance(done, Done)
    assert texts
    child.send(Ping(1))
    pong = child.receive_until(Pong)
    assert isinstance(pong, Pong)
    assert pong.cells_total == 2 * (256 if num_ctx < 256 else 512)


def test_it_ends_when_told(start: Callable[..., Child]) -> None:
    """Stop, and the end of the connection, end the process with 0, also in the middle of an answer."""
    for stop in (True, False):
        child = start()
        child.load(demo_spec())
        child.send(Submit("a", LONG))
        child.receive_until(Delta)
        if stop:
            child.send(Stop())
        else:
            child.socket.close()
        assert child.process.wait(10) == 0


def test_a_missing_file_is_rejected(start: Callable[..., Child]) -> None:
    """The digest is named, no path is, and the process ends with 3."""
    child = start()
    failed = child.load(LoadSpec("llama-cpu", (WeightsRef("sha256:gone", 1),)))
    assert failed == Failed("", "rejected", "the file of sha256:gone is missing")
    assert child.process.wait(10) == 3


def test_a_bad_file_is_rejected(start: Callable[..., Child], tmp_path: Path) -> None:
    """llama.cpp's reason comes without the path."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-bad").write_bytes(b"GGUF" + bytes(100))
    child = start()
    failed = child.load(LoadSpec("llama-cpu", (WeightsRef("sha256:bad", 104),)))
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.kind) == ("", "rejected")
    assert str(tmp_path) not in failed.message
    assert child.process.wait(10) == 3


def test_a_backend_that_is_not_there(start: Callable[..., Child]) -> None:
    """The load fails by the backend's name."""
    child = start()
    failed = child.load(LoadSpec("llama-abacus", (DEMO,)))
    assert isinstance(failed, Failed)
    assert failed.kind == "internal"
    assert "llama-abacus" in failed.message
    assert child.process.wait(10) == 1


FAKE = "ollamad.testing.fake_backend:plugin"


def fake(start: Callable[..., Child], tmp_path: Path, **environment: str) -> tuple[Child, Path]:
    """A runner with the fake backend loaded, and the folder of its gates."""
    gates = tmp_path / "gates"
    gates.mkdir()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-any").write_bytes(b"any file is a model")
    child = start(FAKE, environment={"FAKE_GATE_DIR": str(gates), "FAKE_END_EVERY": "0", **environment})
    return child, gates


FAKE_SPEC = LoadSpec("fake", (WeightsRef("sha256:any", 19),), ctx_len=256, slots=2, n_batch=64)


def test_a_native_failure_fails_the_requests_and_ends_the_runner(start: Callable[..., Child], tmp_path: Path) -> None:
    """Whoever waits is told the library's words, then the process ends with 1."""
    child, gates = fake(start, tmp_path)
    assert isinstance(child.load(FAKE_SPEC), Ready)
    child.send(Submit("a", Generate("abc")))
    child.receive_until(Delta)
    # The decode of this very moment may look at the gate: it must never see half a file.
    (gates / "words").write_text("the device fell off the bus")
    (gates / "words").rename(gates / "fail-decode")
    _, failed = child.collect("a")
    assert failed == Failed("a", "internal", "the device fell off the bus")
    assert child.process.wait(10) == 1


def test_too_little_memory_is_told_as_such(start: Callable[..., Child], tmp_path: Path) -> None:
    """A load that needs more memory than there is fails with kind memory and status 4."""
    child, gates = fake(start, tmp_path)
    (gates / "oom-context").write_text("no room for 256 cells")
    assert child.load(FAKE_SPEC) == Failed("", "memory", "no room for 256 cells")
    assert child.process.wait(10) == 4


def test_nothing_waits_for_a_slow_template_or_step(start: Callable[..., Child], tmp_path: Path) -> None:
    """Ping and cancel are answered while a template runs for its second and a step hangs."""
    slow = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    child, gates = fake(start, tmp_path, FAKE_CHAT_TEMPLATE=slow)
    assert isinstance(child.load(FAKE_SPEC), Ready)
    child.send(Submit("templated", Chat(user("x"))))
    child.send(Submit("raw", Generate("abc")))
    child.receive_until(Delta)
    (gates / "hold-decode").write_text("")
    child.send(Cancel("templated"))
    child.send(Ping(1))
    assert isinstance(child.receive_until(Pong, Failed), Pong)
    (gates / "hold-decode").unlink()
    child.send(Cancel("raw"))
    ends = {
        end.request_id: end for end in (child.receive_until(Done, Failed) for _ in range(2)) if isinstance(end, Failed)
    }
    assert ends["raw"].kind == "cancelled"
    assert ends["templated"].kind in ("template", "cancelled")


def test_another_version_is_not_served(start: Callable[..., Child]) -> None:
    """A daemon that speaks another protocol sees the runner leave."""
    child = start()
    child.send(Hello(999))
    assert isinstance(child.receive(), Hello)
    assert child.receive() is None
    assert child.process.wait(10) == 1


def test_it_does_not_outlive_a_parent_that_is_gone() -> None:
    """Started under another parent than it was told, it ends at once."""
    command = [sys.executable, "-m", "ollamad.runner_child", "--fd", "0", "--store", "/", "--parent", "1"]
    done = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert os.getpid() != 1
