"""What the documents say is there: hooks, headers, metrics, commands, tests and the lines to type."""

import ast
import http.client
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import serving

from ollamad.cli.ctl import main as ollamactl
from ollamad.plugin import Frontend, hookspecs
from ollamad.testing.contracts import FrontendContract
from ollamad.testing.fake_services import FakeServices

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLUGIN_GUIDE = (ROOT / "plugins" / "README.md").read_text()
SOURCES = sorted([*(ROOT / "ollamad").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
CASES = [json.loads(line)["case"] for line in (ROOT / "tests/compat/cases.jsonl").read_text().rstrip("\n").split("\n")]


def constants(path: Path) -> Iterator[str]:
    """Every text that stands in a module's code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def declared_metrics() -> set[str]:
    """Names given to `counter`, `gauge` and `histogram`, wherever they are called."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("counter", "gauge", "histogram"):
                assert isinstance(node.args[0], ast.Constant), f"{path}: a metric's name is no literal"
                found.add(str(node.args[0].value))
    return found


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def proofs() -> list[tuple[str, str, str]]:
    """``(file, test, area)`` of each row of the compatibility table."""
    rows = re.findall(r"\| `(tests/[^`]+)::(\w+)`(?:, cases `(\w+)/\*`)? \|$", README, re.M)
    assert rows, "the compatibility table is gone"
    return rows


def test_every_hook_is_in_the_guide() -> None:
    """An author finds each hook in plugins/README.md."""
    hooks = [name for name in vars(hookspecs) if name.startswith("ollamad_")]
    assert hooks
    assert [name for name in hooks if f"`{name}(" not in PLUGIN_GUIDE] == []


def test_the_guide_shows_code_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frontend of the guide gives its route, and its contract test can be written so."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/plugins/greeting_frontend"))
    plugin, contract = blocks("python", PLUGIN_GUIDE)
    found: dict[str, Any] = {"__name__": "guide"}
    exec(plugin, found)
    registered: list[Frontend] = []
    found["ollamad_register_frontends"](registered.append)
    assert [one.path for one in registered[0].routes(FakeServices().services())] == ["/hello"]
    exec(contract, found)
    assert issubclass(found["TestGreeting"], FrontendContract)


def test_every_metric_is_in_the_readme() -> None:
    """What is counted is named, and what is named is counted."""
    named = set(re.findall(r"`(ollamad_\w+_(?:total|seconds|bytes))`", README))
    assert declared_metrics() == named


def test_every_header_is_in_the_readme() -> None:
    """Our own headers are named in README.md, and no header stands there that nothing sends or reads."""
    pattern = re.compile(r"X-Ollamad-[A-Za-z-]*[a-z]", re.I)
    used = {text.lower() for path in SOURCES for text in constants(path) if pattern.fullmatch(text)}
    assert used == {name.lower() for name in pattern.findall(README)}


def test_every_command_is_in_the_readme() -> None:
    """Each `ollamactl` command stands in the table of commands."""
    table = README[README.index("### The command line") : README.index("### Configuration")]
    missing = [name for name in ollamactl.commands if not re.search(rf"[`( ]{name}[` ]", table)]
    assert missing == []


@pytest.mark.parametrize(("file", "test", "area"), proofs(), ids=lambda value: value)
def test_the_proofs_exist(file: str, test: str, area: str) -> None:
    """A row of the compatibility table names a test that is there, and an area that has cases."""
    assert f"def {test}(" in (ROOT / file).read_text()
    assert not area or any(case.startswith(f"{area}/") for case in CASES)


def test_every_row_has_a_proof() -> None:
    """No row of the compatibility table stands without a test."""
    table = README[README.index("| Route or feature") :].split("\n\n")[0]
    assert len(proofs()) == len(table.split("\n")) - 2


def test_every_link_leads_somewhere() -> None:
    """Relative links of the documents point at files that are there."""
    for document in [
        *ROOT.glob("*.md"),
        *ROOT.glob("ollamad/*.md"),
        *ROOT.glob("plugins/*.md"),
        *ROOT.glob("tests/*/*.md"),
    ]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A daemon with the demo model, as the README starts it."""
    with serving(tmp_path_factory.mktemp("readme")) as port:
        yield port


CURL = [line for block in blocks("sh", README) for line in block.splitlines() if line.startswith("curl ")]


def post(port: int, path: str, body: str) -> tuple[int, str]:
    """Status and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ask(port: int, arguments: list[str]) -> str:
    """Run a curl line of the README against *port*; without curl, its request by Python."""
    _, url, *more = arguments
    if shutil.which("curl"):
        command = ["curl", "--silent", "--show-error", "--max-time", "60", url.replace(":11434", f":{port}"), *more]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert more[0] == "-d"
    return post(port, "/" + url.split("/", 3)[3], more[1])[1]


@pytest.mark.parametrize("line", CURL)
def test_the_curl_lines_work(port: int, line: str) -> None:
    """Each curl line of the README streams an answer that ends with the statistics."""
    *parts, last = [json.loads(one) for one in ask(port, shlex.split(line)).splitlines()]
    text = "".join(one.get("response") or one["message"]["content"] for one in parts)
    assert len(parts) > 3
    assert "demo" in text
    assert last["done"]
    assert {"total_duration", "load_duration", "prompt_eval_count", "eval_count", "eval_duration"} <= last.keys()


def test_there_are_curl_lines() -> None:
    """The README shows both ways to ask."""
    assert [re.search(r"/api/\w+", line)[0] for line in CURL] == ["/api/generate", "/api/chat"]  # type: ignore[index]


def test_the_python_of_the_readme_works(port: int) -> None:
    """The Python lines of the README print an answer."""
    (script,) = blocks("python", README)
    environment = {"OLLAMA_HOST": f"127.0.0.1:{port}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip()


NOT_THERE = {
    "suffix": ("/api/generate", {"prompt": "a", "suffix": "b"}),
    "images": ("/api/generate", {"prompt": "a", "images": ["aGk="]}),
    "format": ("/api/generate", {"prompt": "a", "format": "json"}),
    "logprobs": ("/api/generate", {"prompt": "a", "logprobs": True}),
    "template": ("/api/generate", {"prompt": "a", "template": "{{ .Prompt }}"}),
    "think": ("/api/chat", {"messages": [{"role": "user", "content": "a"}], "think": True}),
    "tools": (
        "/api/chat",
        {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]},
    ),
    "quantize": ("/api/create", {"model": "x", "from": "demo", "quantize": "q4_0"}),
    "v1": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    "pull": ("/api/pull", {}),
    "push": ("/api/push", {}),
}


@pytest.mark.parametrize("feature", NOT_THERE)
def test_what_is_not_there_is_refused(port: int, feature: str) -> None:
    """A request for what this version does not have is refused, and never answered as if it had not asked."""
    path, body = NOT_THERE[feature]
    status, text = post(port, path, json.dumps({"model": "demo", "stream": False, **body}))
    if feature in ("v1", "pull", "push"):
        assert (status, text) == (404, "404 page not found")
    elif feature == "suffix":
        assert (status, "does not support insert" in text) == (400, True)
    else:
        assert (status, "not available in this version of ollamad" in text) == (400, True)
