"""Requests that are wrong in every way the routes know: the exact answer, and a daemon that does not mind."""

import json
from typing import Any

import pytest
from unharmed import Bystander, assert_clean, connect, error_of, head, post, read_all, unharmed

DIGEST = "sha256:" + "0" * 64

#: Path -> (method, Go's name of the request, answer to an empty name, to a bad one, to one that is not there).
NAMED = {
    "/api/generate": (
        "POST",
        "GenerateRequest",
        (404, "model '' not found"),
        (400, "invalid model name"),
        (404, "model 'nope' not found"),
    ),
    "/api/chat": (
        "POST",
        "ChatRequest",
        (400, "model is required"),
        (400, "invalid model name"),
        (404, "model 'nope' not found"),
    ),
    "/api/embed": (
        "POST",
        "EmbedRequest",
        (404, "model '' not found"),
        (400, "invalid model name"),
        (404, 'model "nope" not found, try pulling it first'),
    ),
    "/api/embeddings": (
        "POST",
        "EmbeddingRequest",
        (400, "model is required"),
        (400, "invalid model name"),
        (404, 'model "nope" not found, try pulling it first'),
    ),
    "/api/show": (
        "POST",
        "ShowRequest",
        (400, "model is required"),
        (400, "invalid model name"),
        (404, "model 'nope:latest' not found"),
    ),
    "/api/create": (
        "POST",
        "CreateRequest",
        (400, "invalid model name"),
        (400, "invalid model name"),
        (400, "neither 'from' or 'files' was specified"),
    ),
    "/api/delete": (
        "DELETE",
        "DeleteRequest",
        (400, "model is required"),
        (400, 'name "-bad" is invalid'),
        (404, "model 'nope' not found"),
    ),
}
JSON_ROUTES = [(method, path, kind) for path, (method, kind, *_) in NAMED.items()] + [
    ("POST", "/api/copy", "CopyRequest")
]

#: A body that no JSON route takes -> the decoder's words; {} stands for Go's name of the request.
BROKEN = {
    b"": "missing request body",
    b" \r\n\t ": "missing request body",
    b"{": "unexpected EOF",
    b'{"model":"x"': "unexpected EOF",
    b'{"model":"x': "unexpected EOF",
    b"hello": "invalid character 'h' looking for beginning of value",
    b"\x00": "invalid character '\\x00' looking for beginning of value",
    b"\xff\xfe{}": "invalid character 'ÿ' looking for beginning of value",
    b"{'model': 1}": "invalid character '\\'' looking for beginning of object key string",
    b'{"model" "x"}': "invalid character '\"' after object key",
    b'{"model":"\n"}': "invalid character '\\n' in string literal",
    b'{"model":NaN}': "invalid character 'N' looking for beginning of value",
    b"[" * 20_000: "exceeded max depth",
    b"[1]": "json: cannot unmarshal array into Go value of type api.{}",
    b'"x"': "json: cannot unmarshal string into Go value of type api.{}",
    b"1": "json: cannot unmarshal number into Go value of type api.{}",
    b"true": "json: cannot unmarshal bool into Go value of type api.{}",
}


def ask(daemon: Any, method: str, path: str, body: Any) -> tuple[int, str]:
    status, answer = daemon.request(method, path, body)
    return status, error_of(answer)


def test_bodies_that_are_no_requests(daemon: Any) -> None:
    """Every JSON route answers every broken body with 400 and the decoder's words, while a stream goes on."""
    wrong = []
    with unharmed(daemon), Bystander(daemon):
        for method, path, kind in JSON_ROUTES:
            for body, text in BROKEN.items():
                got = ask(daemon, method, path, body)
                if got != (400, text.format(kind)):
                    wrong.append((method, path, body[:40], got))
    assert wrong == []


@pytest.mark.parametrize("path", NAMED)
def test_names(daemon: Any, path: str) -> None:
    """An empty, an impossible and an unknown name get the route's own answer; a wrong type the decoder's."""
    method, kind, empty, bad, unknown = NAMED[path]
    with unharmed(daemon):
        for body in ({}, {"model": ""}, {"model": None}):
            assert ask(daemon, method, path, body) == empty
        assert ask(daemon, method, path, b"null") == empty
        assert ask(daemon, method, path, {"model": "-bad"}) == bad
        assert ask(daemon, method, path, {"model": "nope"}) == unknown
        for value, seen in ((1, "number"), (True, "bool"), ([], "array"), ({}, "object")):
            text = f"json: cannot unmarshal {seen} into Go struct field {kind}.model of type string"
            assert ask(daemon, method, path, {"model": value}) == (400, text)


HOSTILE_NAMES = [
    "../../../etc/passwd",
    "..",
    "/etc/passwd",
    "a/b/c/d/e",
    "x:../../y",
    "x\x00y",
    "x" * 100_000,
    "host:99999999999/x",
    "a:b:c",
    "💥",
    "demo:" + "t" * 81,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=[repr(name)[:24] for name in HOSTILE_NAMES])
def test_names_that_reach_for_something(daemon: Any, name: str) -> None:
    """A name is never a path: every route refuses it by the contract's statuses, and nothing is read or made."""
    statuses = set()
    with unharmed(daemon):
        for path, (method, *_) in NAMED.items():
            status, answer = daemon.request(method, path, {"model": name})
            echoed = json.loads(answer)["error"].replace(json.dumps(name)[1:-1], "").replace(name, "")
            assert_clean(echoed)
            statuses.add(status)
        for body in ({"source": name, "destination": "x"}, {"source": "demo", "destination": name}):
            statuses.add(daemon.request("POST", "/api/copy", body)[0])
    assert statuses <= {400, 404}


def test_copy(daemon: Any) -> None:
    """Copy names the side that is wrong."""
    cases = {
        ("", "x"): (400, 'source "" is invalid'),
        ("-bad", "x"): (400, 'source "-bad" is invalid'),
        ("demo", ""): (400, 'destination "" is invalid'),
        ("demo", "-bad"): (400, 'destination "-bad" is invalid'),
        ("nope", "x"): (404, 'model "nope" not found'),
    }
    with unharmed(daemon):
        for (source, destination), expected in cases.items():
            assert ask(daemon, "POST", "/api/copy", {"source": source, "destination": destination}) == expected


BAD_DIGESTS = ["abc", "sha256:", "sha256:123", "sha512:" + "0" * 64, "sha256:" + "g" * 64, "sha256_" + "0" * 64]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_digests(daemon: Any, digest: str) -> None:
    """What is no digest is refused by both methods and by create."""
    with unharmed(daemon):
        assert daemon.request("HEAD", f"/api/blobs/{digest}") == (400, b"")
        assert ask(daemon, "POST", f"/api/blobs/{digest}", b"x") == (400, "invalid digest format")
        status, answer = daemon.request(
            "POST", "/api/create", {"model": "x", "files": {"a.gguf": digest}, "stream": False}
        )
        assert status in (400, 500)
        error_of(answer)


def test_digests_of_nothing(daemon: Any) -> None:
    """A digest without a blob is not found; content of another digest is refused and both are named."""
    other = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    with unharmed(daemon):
        assert daemon.request("HEAD", f"/api/blobs/{DIGEST}") == (404, b"")
        mismatch = f'digest mismatch, expected "{DIGEST}", got "{other}"'
        assert ask(daemon, "POST", f"/api/blobs/{DIGEST}", b"x") == (400, mismatch)
        assert daemon.request("HEAD", f"/api/blobs/{DIGEST}") == (404, b"")
        assert daemon.request("POST", "/api/blobs/..%2f..%2fetc%2fpasswd", b"x")[0] in (400, 404)


#: Body beside the model's name -> answer, on the routes that run models.
GENERATE, CHAT = "/api/generate", "/api/chat"
RAW = "raw mode does not support template, system, or context"
UNUSABLE = [
    (GENERATE, {"options": {"num_ctx": "big"}, "prompt": "x"}, 500, 'option "num_ctx" must be of type integer'),
    (GENERATE, {"options": {"temperature": "hot"}, "prompt": "x"}, 500, 'option "temperature" must be of type float32'),
    (GENERATE, {"options": {"use_mmap": 1}, "prompt": "x"}, 500, 'option "use_mmap" must be of type boolean'),
    (GENERATE, {"options": {"stop": "x"}, "prompt": "x"}, 500, 'option "stop" must be of type array'),
    (GENERATE, {"options": {"stop": [1]}, "prompt": "x"}, 500, 'option "stop" must be of an array of strings'),
    (CHAT, {"options": {"num_ctx": True}, "messages": [{}]}, 500, 'option "num_ctx" must be of type integer'),
    ("/api/embed", {"options": {"seed": "x"}, "input": "x"}, 500, 'option "seed" must be of type integer'),
    ("/api/embed", {"input": 1}, 400, "invalid input type"),
    ("/api/embed", {"input": ["x", 1]}, 400, "invalid input type"),
    (GENERATE, {"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
    (GENERATE, {"keep_alive": {}}, 400, "Unsupported type: 'map[string]interface {}'"),
    (GENERATE, {"keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
    (GENERATE, {"images": ["?"]}, 400, "illegal base64 data at input byte 0"),
    (GENERATE, {"raw": True, "system": "x", "prompt": "x"}, 400, RAW),
    (GENERATE, {"prompt": "x", "suffix": "y"}, 400, "registry.ollama.ai/library/demo:latest does not support insert"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), UNUSABLE, ids=[repr(one[1])[:40] for one in UNUSABLE])
def test_values(daemon: Any, path: str, body: dict[str, Any], status: int, text: str) -> None:
    """Values of the wrong type or range are refused in the contract's words."""
    with unharmed(daemon):
        assert ask(daemon, "POST", path, {"model": "demo", **body}) == (status, text)


HEADS = {
    "no request line": (b"\r\n\r\n", 400),
    "rubbish": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two lengths": (b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "negative length": (b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "huge length": (head("POST", "/api/show", Content_Length="9" * 17), 413),
    "bad chunk": (head("POST", "/api/show", Transfer_Encoding="chunked", Connection="close") + b"zz\r\n", 400),
    "unknown coding": (head("POST", "/api/show", Transfer_Encoding="gzip"), 501),
    "long header": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * (1 << 20) + b"y" * 5000, 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 200_000, 431),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads(daemon: Any, name: str) -> None:
    """A head that is none is answered as Go's server does, and the connection ends."""
    data, status = HEADS[name]
    with unharmed(daemon), connect(daemon) as sock:
        sock.sendall(data)
        answer = read_all(sock)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert_clean(answer)


def test_body_over_the_limit(daemon: Any) -> None:
    """A JSON body larger than the limit is refused by its length, before it is sent."""
    with unharmed(daemon), connect(daemon) as sock:
        sock.sendall(head("POST", "/api/chat", Content_Length=str(1 << 40)))
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'{"error":"request body too large"}')


def test_body_that_ends_early(daemon: Any) -> None:
    """Half a body is an unexpected end, not a crash and not a hang."""
    with unharmed(daemon), connect(daemon) as sock:
        sock.sendall(post("/api/show", {"model": "demo"})[:-5])
        sock.shutdown(1)
        answer = read_all(sock)
    assert answer.endswith(b'{"error":"unexpected EOF"}')
    assert answer.startswith(b"HTTP/1.1 400 ")
