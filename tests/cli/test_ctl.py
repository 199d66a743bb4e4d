"""`ollamactl` against a scripted server (runtime contract, command line cases)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Ctl = Callable[..., Result]
CHAT = {"capabilities": ["completion"]}


def test_list_filters_without_case(ctl: Ctl, script: Any) -> None:
    """TBL-02: the prefix of `list` ignores case."""
    model = {"name": "Model1", "digest": "abc123abc123abc", "size": 1024, "modified_at": "0001-01-01T00:00:00Z"}
    script.on("GET", "/api/tags", {"models": [model, {**model, "name": "other"}]})
    out = ctl("list", "MODEL").output
    assert out.splitlines()[1] == "Model1    abc123abc123    1.0 KB    Never       "
    assert len(out.splitlines()) == 2
    assert ctl("ls").output.count("\n") == 3


def test_ps_filters_with_case_and_tells_a_model_that_goes(ctl: Ctl, script: Any) -> None:
    """The prefix of `ps` keeps case (Q18); a past expiry reads `Stopping...`."""
    model = {"name": "demo:latest", "digest": "d" * 64, "size": 10, "size_vram": 0, "context_length": 2048}
    script.on("GET", "/api/ps", {"models": [{**model, "expires_at": "2020-01-01T00:00:00Z"}]})
    assert "100% CPU     2048       Stopping..." in ctl("ps", "demo").output
    assert "demo" not in ctl("ps", "Demo").output


def test_a_server_error_is_one_line(ctl: Ctl, script: Any) -> None:
    """TBL-03."""
    script.on("GET", "/api/tags", "server error", 500)
    result = ctl("list")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: server error\n")


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, {"error": "bad request"}, "bad request"),
        (500, {"error": "went wrong"}, "went wrong"),
        (500, "plain text", "plain text"),
        (404, "<html>nope</html>", "<html>nope</html>"),
        (500, "", "something went wrong, please see the ollamad server logs for details"),
    ],
)
def test_plain_errors(ctl: Ctl, script: Any, status: int, body: Any, text: str) -> None:
    """CPL-01 to CPL-05."""
    script.on("POST", "/api/copy", body, status)
    assert ctl("cp", "a", "b").stderr == f"Error: {text}\n"


@pytest.mark.parametrize(
    ("status", "body", "out", "error"),
    [
        (400, {"error": "test error message"}, "", "400 Bad Request: test error message"),
        (
            200,
            [{"response": "one "}, {"response": "two"}, {"error": "mid-stream error"}],
            "one two",
            "mid-stream error",
        ),
        (500, {"error": "custom"}, "", "500 Internal Server Error: custom"),
        (200, "plain text line\n", "", "plain text line"),
        (200, "<html>x</html>\n", "", "<html>x</html>"),
    ],
)
def test_stream_errors(ctl: Ctl, script: Any, status: int, body: Any, out: str, error: str) -> None:
    """CST-01 to CST-06."""
    script.on("POST", "/api/show", CHAT)
    script.on("POST", "/api/generate", body, status)
    result = ctl("run", "m", "hi")
    assert (result.exit_code, result.stdout, result.stderr) == (1, out, f"Error: {error}\n")


def test_a_body_that_breaks_off(ctl: Ctl, script: Any) -> None:
    """CST-07."""
    script.on("POST", "/api/show", CHAT)
    script.on("POST", "/api/generate", [{"response": "half"}])
    script.broken.add(("POST", "/api/generate"))
    assert "unexpected EOF" in ctl("run", "m", "hi").stderr


def test_nobody_answers(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUN-16: a refused connection says how to start the server."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    result = ctl("list")
    assert result.exit_code == 1
    assert "could not connect to the ollamad server at http://127.0.0.1:1: start it with" in result.stderr


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["show"], "accepts 1 arg(s), received 0"),
        (["cp", "a"], "accepts 2 arg(s), received 1"),
        (["rm"], "requires at least 1 arg(s), only received 0"),
        (["list", "--x"], "unknown flag: --x"),
        (["list", "-x"], "unknown shorthand flag: 'x' in -x"),
        (["run", "m", "--format"], "flag needs an argument: --format"),
        (["foo"], 'unknown command "foo" for "main"'),
        (["sho"], 'unknown command "sho" for "main"\n\nDid you mean this?\n\tshow\n'),
        (["run", "m", "--think=sometimes"],
         'invalid value for --think: "sometimes" (must be true, false, high, medium, low, or max)'),
        (["run", "m", "--keepalive", "300"], 'time: missing unit in duration "300"'),
        (["run", "m", "x", "--format", "{"], "--format is neither json nor a JSON schema: Expecting property name"),
        (["show", "m", "--license", "--system"],
         "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"),
        (["create", "-bad-"], "unknown shorthand flag: 'b' in -b"),
        (["create", "a/b/c/d/e"], "invalid model name: a/b/c/d/e"),
    ],
)  # fmt: skip
def test_wrong_use(ctl: Ctl, script: Any, args: list[str], error: str) -> None:
    """Every wrong use is one `Error:` line, status 1, and no usage text."""
    result = ctl(*args)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {error}")
    assert "Usage" not in result.output


def test_run_prints_as_it_comes_and_sums_up(ctl: Ctl, script: Any) -> None:
    """Text, then two newlines, then with --verbose the timings on stderr."""
    script.on("POST", "/api/show", CHAT)
    done = {
        "done": True,
        "response": "",
        "total_duration": 5043500667,
        "load_duration": 5025959,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 325953000,
        "eval_count": 290,
        "eval_duration": 4709213000,
    }
    script.on("POST", "/api/generate", [{"response": "Hel"}, {"response": "lo"}, done])
    result = ctl("run", "m", "hi", "there", "--verbose", "--keepalive", "5m", "--think=false")
    assert result.stdout == "Hello\n\n"
    assert result.stderr == (
        "total duration:       5.043500667s\nload duration:        5.025959ms\n"
        "prompt eval count:    26 token(s)\nprompt eval duration: 325.953ms\n"
        "prompt eval rate:     79.77 tokens/s\neval count:           290 token(s)\n"
        "eval duration:        4.709213s\neval rate:            61.58 tokens/s\n"
    )
    assert script.asked("/api/generate") == [{"model": "m", "keep_alive": "5m", "think": False, "prompt": "hi there"}]


@pytest.mark.parametrize(
    ("args", "stdin", "prompt"),
    [(["add"], "piped text", "piped text add"), ([], "a\n", "a\n"), ([""], "", ""), ([], "", "")],
)
def test_stdin_comes_before_the_arguments(ctl: Ctl, script: Any, args: list[str], stdin: str, prompt: str) -> None:
    """RUN-03, RUN-11, RUN-12."""
    script.on("POST", "/api/show", CHAT)
    script.on("POST", "/api/generate", [{"response": "", "done": True}])
    result = ctl("run", "m", *args, input=stdin)
    assert (result.exit_code, result.stdout) == (0, "\n\n" if prompt else "")
    assert script.asked("/api/generate") == [{"model": "m", "prompt": prompt}]


def test_a_bare_think_takes_no_word(ctl: Ctl, script: Any) -> None:
    """RUN-14."""
    script.on("POST", "/api/show", CHAT)
    script.on("POST", "/api/generate", [{"thinking": "hm", "response": ""}, {"response": "x"}, {"done": True}])
    assert ctl("run", "m", "--think", "high", "hello").stdout == "Thinking...\nhm\n...done thinking.\n\nx\n\n"
    assert ctl("run", "m", "--hidethinking", "--think", "high", "hello").stdout == "x\n\n"
    assert script.asked("/api/generate")[0] == {"model": "m", "think": True, "prompt": "high hello"}


def test_an_embedding_model_prints_its_vector(ctl: Ctl, script: Any) -> None:
    """RUN-01, RUN-02, RUN-04."""
    script.on("POST", "/api/show", {"capabilities": ["embedding"]})
    script.on("POST", "/api/embed", {"embeddings": [[0.1, 0.2, 0.3]]})
    assert ctl("run", "m", "hello", "world").stdout == "[0.1,0.2,0.3]\n"
    ctl("run", "m", "x", "--truncate", "true", "--dimensions", "2", "--keepalive", "5m")
    assert script.asked("/api/embed") == [
        {"model": "m", "input": "hello world"},
        {"model": "m", "input": "x", "truncate": True, "keep_alive": "5m", "dimensions": 2},
    ]
    assert "embedding models require input text" in ctl("run", "m").stderr


def test_rm_unloads_first(ctl: Ctl, script: Any) -> None:
    """DEL-01: the model is let go before it is deleted."""
    script.on("POST", "/api/show", CHAT)
    script.on("POST", "/api/generate", {"done": True})
    script.on("DELETE", "/api/delete")
    assert ctl("rm", "a", "b").stdout == "deleted 'a'\ndeleted 'b'\n"
    assert [path for _, path, _ in script.requests] == ["/api/show", "/api/generate", "/api/delete"] * 2


def test_rm_and_stop_of_an_unknown_model(ctl: Ctl, script: Any) -> None:
    """DEL-02, and the wording of `stop`."""
    script.on("POST", "/api/show", {"error": "model 'x' not found"}, 404)
    script.on("DELETE", "/api/delete", {"error": "model 'x' not found"}, 404)
    assert ctl("rm", "x").stderr == "Error: model 'x' not found\n"
    assert ctl("stop", "x").stderr == 'Error: couldn\'t find model "x" to stop\n'


def test_create_uploads_and_creates(ctl: Ctl, script: Any, tmp_path: Path) -> None:
    """A local file is hashed, uploaded unless the server has it, and named in the request."""
    weights = b"GGUF" + bytes(3_000_000)
    (tmp_path / "m.gguf").write_bytes(weights)
    (tmp_path / "Modelfile").write_text("FROM ./m.gguf\nPARAMETER temperature 0.5\nSYSTEM be kind\nMESSAGE user hi\n")
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    script.on("HEAD", f"/api/blobs/{digest}", status=404)
    script.on("POST", f"/api/blobs/{digest}", status=201)
    script.on("POST", "/api/create", [{"status": "writing manifest"}, {"status": "success"}])
    result = ctl("create", "mine", "-f", str(tmp_path / "Modelfile"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert script.asked(f"/api/blobs/{digest}") == [b"", weights]
    assert script.asked("/api/create") == [
        {
            "model": "mine",
            "stream": True,
            "system": "be kind",
            "parameters": {"temperature": 0.5},
            "messages": [{"role": "user", "content": "hi"}],
            "files": {"m.gguf": digest},
        }
    ]
    assert "success" in result.stderr
    script.on("HEAD", f"/api/blobs/{digest}")
    ctl("create", "mine", "-f", str(tmp_path / "Modelfile"))
    assert [body for method, _, body in script.requests if method == "POST" and body == weights] == [weights]


def test_create_from_a_model(ctl: Ctl, script: Any, tmp_path: Path) -> None:
    """CRE-01, CRE-05: a FROM that is no file is a model's name; a missing -f is an error (Q6)."""
    (tmp_path / "Modelfile").write_text("FROM foo\n")
    script.on("POST", "/api/create", [{"status": "success"}])
    assert ctl("create", "test-model", "-f", str(tmp_path / "Modelfile")).stdout == ""
    assert script.asked("/api/create") == [{"model": "test-model", "stream": True, "from": "foo"}]
    assert "no such Modelfile" in ctl("create", "m", "-f", str(tmp_path / "missing")).stderr


def test_version_tells_both(ctl: Ctl, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's version and the client's, with a warning when nobody answers."""
    script.on("GET", "/api/version", {"version": "0.32.1"})
    assert ctl("--version").stdout.splitlines()[0] == "server version is 0.32.1"
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    assert ctl("-v").stdout.startswith("Warning: could not connect to a running ollamad\nollamactl version is ")


def test_admin_commands_print_what_the_daemon_says(ctl: Ctl, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Admin commands render the admin routes; without a daemon `config show` prints the local view, marked."""
    from ollamad.cli import admin
    from ollamad.cli.client import Client
    from ollamad.config.host import parse_host

    monkeypatch.setattr(admin, "admin_client", lambda socket: Client(parse_host(script.url)[0]))
    option = {"key": "server.port", "value": 11434, "source": "environment", "detail": "OLLAMA_HOST", "text": "11434"}
    script.on("GET", "/ollamad/config", {"options": [option]})
    broken = {"name": "bad", "status": "failed", "reason": "boom", "details": "Traceback x"}
    script.on("GET", "/ollamad/plugins", {"plugins": [{**broken, "backends": [], "frontends": []}]})
    script.on("GET", "/ollamad/status", {"version": "1", "rss_bytes": 2048, "models": []})
    assert "server.port    11434    environment (OLLAMA_HOST)" in ctl("config", "show").output
    assert json.loads(ctl("config", "show", "--json").output) == [option]
    assert "bad     failed" in ctl("plugins").output
    assert "Traceback x" in ctl("plugins", "-v").output
    assert "rss bytes    2.0 KB" in ctl("status").output
