"""Requests read with the errors of Go's decoder."""

from typing import Any

import pytest
from ollamad_ollama_api.decode import CHAT, COPY, CREATE, EMBED, GENERATE, SHOW, decode, messages_of
from ollamad_ollama_api.fields import Struct

from ollamad.plugin import InvalidRequest, Message

_THINK = 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'


def _text(struct: Struct, field: str, value: str, kind: str) -> str:
    return f"json: cannot unmarshal {value} into Go struct field {struct.name}.{field} of type {kind}"


@pytest.mark.parametrize(
    ("struct", "body", "message"),
    [
        pytest.param(GENERATE, b'{"raw":"yes"}', _text(GENERATE, "raw", "string", "bool"), id="TR-17"),
        (GENERATE, b'{"model":5}', _text(GENERATE, "model", "number", "string")),
        (GENERATE, b'{"prompt":["a"]}', _text(GENERATE, "prompt", "array", "string")),
        (GENERATE, b'{"stream":"true"}', _text(GENERATE, "stream", "string", "bool")),
        (GENERATE, b'{"options":[]}', _text(GENERATE, "options", "array", "map[string]interface {}")),
        (GENERATE, b'{"system":{}}', _text(GENERATE, "system", "object", "string")),
        (GENERATE, b'{"top_logprobs":1.5}', _text(GENERATE, "top_logprobs", "number 1.5", "int")),
        (GENERATE, b'{"top_logprobs":1e2}', _text(GENERATE, "top_logprobs", "number 1e2", "int")),
        (
            GENERATE,
            b'{"top_logprobs":99999999999999999999}',
            _text(GENERATE, "top_logprobs", "number 99999999999999999999", "int"),
        ),
        (GENERATE, b'{"images":"x"}', _text(GENERATE, "images", "string", "[]api.ImageData")),
        (GENERATE, b'{"images":[5]}', _text(GENERATE, "images", "number", "api.ImageData")),
        (GENERATE, b'{"images":["!"]}', "illegal base64 data at input byte 0"),
        (GENERATE, b'{"context":[1,"x"]}', _text(GENERATE, "context", "string", "int")),
        (GENERATE, b'{"options":{"a":1e999}}', _text(GENERATE, "options", "number 1e999", "float64")),
        (GENERATE, b"5", "json: cannot unmarshal number into Go value of type api.GenerateRequest"),
        (GENERATE, b'"text"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
        (GENERATE, b"true", "json: cannot unmarshal bool into Go value of type api.GenerateRequest"),
        (GENERATE, b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        pytest.param(GENERATE, b'{"keep_alive":true}', "Unsupported type: 'bool'", id="DU-10"),
        (GENERATE, b'{"keep_alive":[]}', "Unsupported type: '[]interface {}'"),
        (GENERATE, b'{"keep_alive":{}}', "Unsupported type: 'map[string]interface {}'"),
        (GENERATE, b'{"keep_alive":"1d"}', 'time: unknown unit "d" in duration "1d"'),
        pytest.param(
            GENERATE,
            b'{"think":"invalid"}',
            'invalid think value: "invalid" (must be "high", "medium", "low", "max", true, or false)',
            id="GE-44",
        ),
        (GENERATE, b'{"think":1}', _THINK),
        (GENERATE, b'{"think":{}}', _THINK),
        (CHAT, b'{"tools":{}}', _text(CHAT, "tools", "object", "api.Tools")),
        (CHAT, b'{"tools":["x"]}', _text(CHAT, "tools", "string", "api.Tool")),
        pytest.param(
            CHAT, b'{"messages":[{"content":[]}]}', _text(CHAT, "messages.content", "array", "string"), id="CH-36"
        ),
        (CHAT, b'{"messages":{}}', _text(CHAT, "messages", "object", "[]api.Message")),
        (SHOW, b'{"model":["m"]}', _text(SHOW, "model", "array", "string")),
        (COPY, b'{"source":1}', _text(COPY, "source", "number", "string")),
        (EMBED, b'{"dimensions":"3"}', _text(EMBED, "dimensions", "string", "int")),
        (CREATE, b'{"files":[]}', _text(CREATE, "files", "array", "map[string]string")),
        (CREATE, b'{"parameters":["x"]}', _text(CREATE, "parameters", "array", "map[string]interface {}")),
        (GENERATE, b'{"model":5,"raw":1}', _text(GENERATE, "model", "number", "string")),
        (GENERATE, b'{"model":5} trailing', _text(GENERATE, "model", "number", "string")),
        (GENERATE, b'{"model":5', "unexpected EOF"),
    ],
)
def test_what_does_not_fit(struct: Struct, body: bytes, message: str) -> None:
    """The first misfit is told with Go's words; broken syntax comes before any misfit."""
    with pytest.raises(InvalidRequest) as caught:
        decode(struct, body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param(b"null", {}, id="TR-14"),
        pytest.param(b'{"MODEL":"m"}', {"model": "m"}, id="TR-20"),
        pytest.param(b'{"model":"m","unknown":1}', {"model": "m"}, id="TR-21"),
        (b'{"model":"a","Model":"b"}', {"model": "b"}),
        (b'{"model":"a","model":null}', {"model": "a"}),
        (b'{"options":{"a":1},"options":{"b":2}}', {"options": {"a": 1, "b": 2}}),
        (b'{"options":{"a":1.0,"b":1.5,"c":1e2,"d":null}}', {"options": {"a": 1.0, "b": 1.5, "c": 100.0, "d": None}}),
        (b'{"images":["QUI=",null,[65,66]]}', {"images": [b"AB", b"", b"AB"]}),
        (b'{"keep_alive":42}', {"keep_alive": 42 * 10**9}),
        (b'{"keep_alive":42.5}', {"keep_alive": 42_500_000_000}),
        (b'{"keep_alive":-3.14}', {"keep_alive": -1}),
        (b'{"keep_alive":"-1m"}', {"keep_alive": -1}),
        (b'{"keep_alive":1e300}', {"keep_alive": 2**63 - 1}),
        (b'{"keep_alive":"0"}', {"keep_alive": 0}),
        (b'{"think":"low"}', {"think": "low"}),
        (b'{"think":null,"stream":null}', {}),
    ],
)
def test_what_fits(body: bytes, found: dict[str, Any]) -> None:
    """Keys match in any case, the last one wins, null is absent, maps are merged."""
    assert decode(GENERATE, body) == found


def test_deep_values_are_read() -> None:
    """Depth inside of free-form maps is no error: nobody looks there."""
    deep = b"[" * 5000 + b"]" * 5000
    assert decode(GENERATE, b'{"model":"m","options":{"temperature":1,"x":' + deep + b"}}")["model"] == "m"


def test_messages() -> None:
    """Roles are lower-cased; a null in the list is an empty message; calls keep their arguments."""
    found = decode(
        CHAT,
        b'{"messages":[{"role":"USER","content":"x","images":["QQ=="]},null,'
        b'{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":[1]}}}]}]}',
    )
    call = {"id": "", "function": {"index": 0, "name": "f", "arguments": {"a": [1]}}}
    assert messages_of(found) == (
        Message("user", "x", images=(b"A",)),
        Message("", ""),
        Message("assistant", "", tool_calls=(call,)),
    )
