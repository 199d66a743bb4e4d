"""Messages and their bytes."""

import json
import time
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.errors import VersionMismatch, WireError
from ollamad.types import Memory, Message, Placed, SamplingParameters, Timings, WeightsRef
from ollamad.wire import messages as m
from ollamad.wire.codec import check_version, decode, encode

numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
texts = st.text()
anything = st.recursive(
    st.none() | st.booleans() | numbers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def tuples(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(item, max_size=4).map(tuple)


objects = st.dictionaries(texts, anything, max_size=3)
weights = st.builds(WeightsRef, texts, numbers, st.sampled_from(["store", "demo"]))
turns = st.builds(Message, texts, texts, texts, tuples(st.binary(max_size=20)), tuples(objects), texts, texts)
parameters = st.builds(
    SamplingParameters,
    seed=numbers,
    top_k=numbers,
    top_p=floats,
    temperature=floats,
    stop=tuples(texts),
)
thinks = st.none() | st.booleans() | texts
flags = st.booleans()
optional_flags = st.none() | flags
generates = st.builds(
    m.Generate,
    prompt=texts,
    messages=tuples(turns),
    prefix_tokens=tuples(numbers),
    parameters=parameters,
    truncate=flags,
    think=thinks,
    grammar=st.none() | texts,
)
chats = st.builds(m.Chat, messages=tuples(turns), parameters=parameters, shift=flags, think=thinks, num_ctx=numbers)
tasks = (
    generates
    | chats
    | st.builds(m.Embed, inputs=tuples(texts), truncate=flags, dimensions=numbers)
    | st.builds(m.Tokenize, texts, flags, flags)
    | st.builds(m.Detokenize, tuples(numbers))
    | st.builds(m.Count, texts, tuples(turns))
    | st.builds(m.Render, generates | chats)
    | st.builds(m.Rerank, texts, tuples(texts))
    | st.builds(m.Save, texts)
    | st.builds(m.Restore, texts)
)
placed = st.builds(Placed, texts, texts, numbers, numbers)
specs = st.builds(
    m.LoadSpec,
    backend=texts,
    weights=tuples(weights),
    placement=tuples(placed),
    flash_attention=optional_flags,
    use_mmap=optional_flags,
    main_gpu=st.none() | numbers,
    vocab_only=flags,
)
downs = (
    st.builds(m.Hello, numbers, numbers)
    | st.builds(m.Load, specs)
    | st.builds(m.Submit, texts, tasks, texts)
    | st.builds(m.Cancel, texts)
    | st.builds(m.Pause, texts, flags)
    | st.builds(m.Ping, numbers)
    | st.just(m.Stop())
)
memories = st.builds(Memory, texts, texts, numbers, numbers, numbers)
ups = (
    st.builds(m.Hello, numbers, numbers)
    | st.builds(m.Ready, tuples(memories), *[numbers] * 6, *[flags] * 3)
    | st.builds(m.Progress, floats, texts)
    | st.builds(m.Delta, texts, texts, st.sampled_from(["content", "thinking"]), numbers)
    | st.builds(
        m.Done,
        texts,
        reason=st.sampled_from(["stop", "length", "done"]),
        timings=st.builds(Timings, numbers, numbers),
        tokens=tuples(numbers),
        vectors=tuples(st.binary(max_size=16)),
    )
    | st.builds(m.Failed, texts, st.sampled_from(get_args(m.FailedKind)), texts)
    | st.builds(m.Pong, *[numbers] * 5)
)


@given(downs)
@settings(max_examples=300, deadline=None)
def test_a_message_down_is_the_same_behind_the_border(message: m.Down) -> None:
    """Every message to a child comes back equal from its bytes."""
    assert decode(encode(message), down=True) == message


@given(ups)
@settings(max_examples=300, deadline=None)
def test_a_message_up_is_the_same_behind_the_border(message: m.Up) -> None:
    """Every message to the daemon comes back equal from its bytes."""
    assert decode(encode(message), down=False) == message


@given(st.binary(max_size=200), flags)
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused(payload: bytes, down: bool) -> None:
    """Bytes that are no message give a WireError and nothing else."""
    with pytest.raises(WireError):
        decode(payload, down=down)


@given(ups | downs, st.data())
@settings(max_examples=300, deadline=None)
def test_a_changed_message_is_refused_or_still_a_message(message: Any, data: st.DataObject) -> None:
    """A message whose parts were swapped for others gives a WireError or a message, never another error."""
    value = json.loads(encode(message))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] = data.draw(anything)
    for down in (True, False):
        try:
            changed = decode(json.dumps(value).encode(), down=down)
        except WireError:
            continue
        assert isinstance(changed, get_args(m.Down if down else m.Up))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"7",
        b'"Ping"',
        b'["Ping"]',
        b'["Ping",1,2]',
        b'["Ping","1"]',
        b'["Ping",true]',
        b'["Ping",1.0]',
        b'["Nothing"]',
        b'[["Ping"],1]',
        b"[{},1]",
        b'["Stop"] ',
        b'["Pong",1,0,0,0,0,0,0,0,0,0,0,0]',
        b'["Pause","a",1]',
        b'["Submit","a",["Generate"],""]',
        b'["Submit","a",["Unknown",1],""]',
        b'["Submit","a",[[]],""]',
        b'["Submit","a",{},""]',
        b'["Submit","a",["Detokenize",[1,true]],""]',
        b'["Submit","a",["Detokenize","12"],""]',
        b'["Hello"]',
        b'["Hello","1"]',
        b"[" * 100_000,
        b'["Ping",' + b"1" * 10_000 + b"]",
        b"\xff\xfe",
        b'["Cancel","\xff"]',
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_a_wrong_message_down_is_refused(payload: bytes) -> None:
    """Another direction, name, type or number of fields is a WireError."""
    with pytest.raises(WireError):
        decode(payload, down=True)


@pytest.mark.parametrize(
    "payload",
    [
        b'["Delta","a","b","content"]',
        b'["Delta","a","b","content",true]',
        b'["Delta","a",1,"content",0]',
        b'["Delta",1,"b","content",0]',
        b'["Delta","a","b","shout",0]',
        b'["Delta","a","b",["content"],0]',
        b'["Failed","a","odd","b"]',
        b'["Ping",1]',
        b'["Progress","half",""]',
        b'["Progress",' + b"1" * 400 + b',""]',
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_a_wrong_message_up_is_refused(payload: bytes) -> None:
    """A daemon takes nothing from a runner that is not exactly a message."""
    with pytest.raises(WireError):
        decode(payload, down=False)


def test_vectors_that_are_no_base64_are_refused() -> None:
    """Bytes are strict base64."""
    value = json.loads(encode(m.Done("a", vectors=(b"abc",))))
    value[8] = ["a*b="]
    with pytest.raises(WireError):
        decode(json.dumps(value).encode(), down=False)


def test_text_with_half_a_surrogate_pair_passes() -> None:
    """Text that JSON let in from a client, but that UTF-8 cannot hold, comes through."""
    message = m.Delta("a", "\ud800 \udfff")
    assert decode(encode(message), down=False) == message


def test_versions_must_be_equal() -> None:
    """A peer of another version is told apart from a broken one, even if its Hello has more fields."""
    ours = m.Hello(m.PROTOCOL_VERSION, 7)
    assert check_version(decode(encode(ours), down=False)) == ours
    newer = decode(b'["Hello",99,7,"new",[1]]', down=True)
    with pytest.raises(VersionMismatch, match=r"version 99 .* same release") as caught:
        check_version(newer)
    assert (caught.value.ours, caught.value.theirs) == (m.PROTOCOL_VERSION, 99)
    with pytest.raises(WireError, match="closed before"):
        check_version(None)
    with pytest.raises(WireError, match="did not begin"):
        check_version(replace(m.Ping(1)))


def test_a_delta_is_cheap() -> None:
    """Encoding and decoding a delta takes a few microseconds (5 is the goal; 50 is never the machine)."""
    delta = m.Delta("req-0123456789", " naïve")
    started = time.perf_counter()
    for _ in range(2000):
        decode(encode(delta), down=False)
    assert (time.perf_counter() - started) / 2000 < 50e-6
