"""Bodies of layers with the bytes, and so the digests, that Ollama writes (appendix F)."""

import hashlib

import pytest

from ollamad.errors import InvalidRequest, StoreError
from ollamad.store import (
    decode_config,
    decode_messages,
    decode_parameters,
    encode_config,
    encode_messages,
    encode_parameters,
)
from ollamad.types import Message, ModelConfig

CONFIG = ModelConfig(
    model_format="gguf", model_family="test", model_families=("test",), model_type="0", file_type="unknown"
)
M1 = (
    Message("assistant", "What is my purpose?"),
    Message("user", "You run tests."),
    Message("assistant", "Oh, my god."),
)
M2 = (
    Message("assistant", "You're a test, Harry."),
    Message("user", "I-I'm a what?"),
    Message("assistant", "A test. And a thumping good one at that, I'd wager."),
)
STOP = ["USER:", "ASSISTANT:"]
PHI = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        pytest.param(
            encode_config(CONFIG), "99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c", id="CONFIG"
        ),
        pytest.param(
            encode_parameters({"temperature": 1, "top_k": 10, "stop": STOP}),
            "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37",
            id="P1",
        ),
        pytest.param(
            encode_parameters({"stop": STOP, "temperature": 0.6, "top_k": 10.0, "top_p": 0.7}),
            "e29a7b3c47287a2489c895d21fe413c20f859a85d20e749492f52a838e36e1ba",
            id="P2",
        ),
        pytest.param(
            encode_parameters({"stop": ["<|endoftext|>"], "temperature": 0.6, "top_k": 10, "top_p": 0.7}),
            "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35",
            id="P3",
        ),
        pytest.param(
            encode_parameters({"stop": PHI}),
            "0d79f567714c62c048378f2107fb332dabee0135d080c302d884317da9433cc5",
            id="PHP",
        ),
        pytest.param(encode_messages(M1), "298baeaf6928a60cf666d88d64a1ba606feb43a2865687c39e40652e407bffc4", id="M1"),
        pytest.param(encode_messages(M2), "a60ecc9da299ec7ede453f99236e5577fd125e143689b646d9f0ddc9971bf4db", id="M2"),
        pytest.param(b"{{ .Prompt }}", "b507b9c2f6ca642bffcd06665ea7c91f235fd32daeefdf875a0f938db05fb315", id="T1"),
        pytest.param(b"Say hi!", "f29e82a8284dbdf5910b1555580ff60b04238b8da9d5e51159ada67a4d0d5851", id="S1"),
        pytest.param(b"MIT", "e5dcffe836b6ec8a58e492419b550e65fb8cbdc308503979e5dacb33ac7ea3b7", id="L1"),
    ],
)
def test_digests_of_appendix_f(data: bytes, digest: str) -> None:
    """The bytes we write hash to what Ollama's do."""
    assert hashlib.sha256(data).hexdigest() == digest


def test_every_key_of_a_config() -> None:
    """All keys are written in the contract's order and come back."""
    config = ModelConfig(
        model_families=None,
        renderer="r",
        parser="p",
        requires="0.1",
        remote_host="https://ollama.com:443",
        remote_model="m",
        capabilities=("completion", "tools"),
        context_length=10,
        embedding_length=20,
        base_name="b",
    )
    assert encode_config(config) == (
        b'{"model_format":"","model_family":"","model_families":null,"model_type":"","file_type":"","renderer":"r",'
        b'"parser":"p","requires":"0.1","remote_host":"https://ollama.com:443","remote_model":"m",'
        b'"capabilities":["completion","tools"],"context_length":10,"embedding_length":20,"base_name":"b",'
        b'"architecture":"amd64","os":"linux"}\n'
    )
    assert decode_config(encode_config(config)) == config


def test_old_config() -> None:
    """Missing and unknown keys, such as `rootfs`, are no hindrance."""
    config = decode_config(b'{"rootfs":{"type":"layers","diff_ids":[]},"model_family":"llama","capabilities":null}')
    assert config == ModelConfig(model_family="llama")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b'{"model_format":1}', b'{"model_families":"x"}', b'{"capabilities":[1]}', b"[" * 100_000),
        b'{"context_length":"1"}',
    ],
)
def test_broken_config(data: bytes) -> None:
    """A config of another shape is a `StoreError`."""
    with pytest.raises(StoreError):
        decode_config(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2**53, "9007199254740992"), (2**63, "9223372036854776000"), (1.0, "1"), (0.1, "0.1"), (-7, "-7")],
)
def test_numbers_of_parameters(value: float, text: str) -> None:
    """Numbers are as Go's float64 prints them, so the largest lose their last digits."""
    assert encode_parameters({"n": value, "l": [value]}) == f'{{"l":[{text}],"n":{text}}}\n'.encode()


def test_parameters_read_back() -> None:
    """Parameters keep their types."""
    assert decode_parameters(b'{"a":1,"b":0.5,"stop":["x"]}') == {"a": 1, "b": 0.5, "stop": ["x"]}


def test_number_out_of_range() -> None:
    """A number that no float64 holds is the caller's mistake."""
    for value in (10**400, float("inf"), [10**400], {"a": 10**400}):
        with pytest.raises(InvalidRequest):
            encode_parameters({"n": value})


@pytest.mark.parametrize("data", [b"[]", b"x", b'"x"'])
def test_broken_parameters(data: bytes) -> None:
    """Parameters are one object."""
    with pytest.raises(StoreError):
        decode_parameters(data)


def test_a_message_with_everything() -> None:
    """Optional fields stand only where they hold something; arguments keep their order; all come back."""
    call = {"id": "c1", "function": {"index": 1, "name": "f", "arguments": {"z": {"b": 1, "a": 2}, "a": "<"}}}
    message = Message("assistant", "", "hm", (b"\x00\xff",), (call,), "t", "c1")
    data = encode_messages([message, Message("user", "é")])
    assert (
        data
        == (
            '[{"role":"assistant","content":"","thinking":"hm","images":["AP8="],"tool_calls":[{"id":"c1","function":'
            '{"index":1,"name":"f","arguments":{"z":{"a":2,"b":1},"a":"\\u003c"}}}],"tool_name":"t","tool_call_id":"c1"},'
            '{"role":"user","content":"é"}]\n'
        ).encode()
    )
    assert decode_messages(data) == (message, Message("user", "é"))


def test_a_call_with_little() -> None:
    """A tool call without id, index or arguments gets the encoder's defaults."""
    data = encode_messages([Message("assistant", "", tool_calls=({"function": {"name": "f"}},))])
    assert b'"tool_calls":[{"function":{"index":0,"name":"f","arguments":{}}}]' in data


@pytest.mark.parametrize(
    "data", [b"{}", b"[1]", b'[{"role":1}]', b'[{"images":["*"]}]', b'[{"images":[1]}]', b'[{"tool_calls":[1]}]', b"]"]
)
def test_broken_messages(data: bytes) -> None:
    """Messages of another shape are a `StoreError`."""
    with pytest.raises(StoreError):
        decode_messages(data)


def test_messages_with_nulls() -> None:
    """A null stands for an absent field."""
    assert decode_messages(b'[{"role":"user","content":null,"images":null}]') == (Message("user", ""),)
