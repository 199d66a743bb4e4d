"""Sends what a recorded case says to a server, and compares what comes back with what was recorded."""

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

from recorded import files
from recorded.template import Known, Mismatch, compare, fits
from recorded.wire import Answer, Wire, request

# What a client can depend on; the others (Date, Content-Length, X-…) are free.
HEADERS = frozenset(
    (
        "content-type",
        "allow",
        "location",
        "vary",
        "cache-control",
        "retry-after",
        "www-authenticate",
        "access-control-allow-origin",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "access-control-max-age",
    )
)
# Progress that depends on time; a server may leave it out.
OPTIONAL = re.compile(r'\{"status":"(validating GGUF model|verifying conversion)".*\}')
STORE = re.compile(r'/[^\s"]*/blobs/sha256-')
OURS = re.compile(r"(^|/)rp[-/]", re.I)
PLACE = re.compile(r"\{(addr|port)\}|\{(blob|upper|file):([a-z0-9-]+)\}")
NAMED = ("demo", "bare", "fresh-b", "fresh-d")  # files whose digest stands in recorded answers by name
PATIENCE_S = 60.0
LONG = 40  # records from which "all at once" is told from "one by one"


class Player:
    """One server that cases are played against."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._address = f"127.0.0.1:{port}"

    async def create_models(self, models: dict[str, Any]) -> None:
        """Upload files and create the models that all cases may use."""
        for name, made in models.items():
            await self._plain("POST", f"/api/blobs/{files.digest(made['file'])}", files.load(made["file"]))
            answer = await self._plain(
                "POST", "/api/create", json.dumps(self._filled({**made["create"], "model": name})).encode()
            )
            assert b'"success"' in answer.body, answer.body

    async def play(self, case: dict[str, Any]) -> None:
        """Play one case; raises Mismatch, with the step, where an answer differs."""
        if any(one.get("path") == "/api/ps" for step in case["steps"] for one in _requests(step)):
            await self._unload_all()
        known = Known()
        for step in case.get("before", ()):
            answer = (await self._ask(step, known))[0]
            if not step.get("optional") and (answer.status >= 400 or b'"error"' in answer.body[:2000]):
                raise Mismatch(f"preparing: {step} got {answer.status} {answer.body[:300]!r}")
        try:
            for number, step in enumerate(case["steps"], 1):
                try:
                    self._judge(step, await self._ask(step, known), known)
                except Mismatch as error:
                    raise Mismatch(f"step {number} {step.get('method')} {step.get('path')}: {error}") from None
        finally:
            for step in case.get("after", ()):
                if step["method"] == "DELETE":  # a loaded model that has no name any more could not be unloaded by it
                    await self._unload(step["json"]["model"])
                await self._ask(step, known)

    # --- asking --------------------------------------------------------------------------

    async def _ask(self, step: dict[str, Any], known: Known) -> list[Answer]:
        kind = step.get("kind", "http")
        if kind == "parallel":
            found = await asyncio.gather(*(self._ask(one, known) for one in step["requests"]))
            answers = [answer for part in found for answer in part]
        elif kind == "raw":
            answers = await self._raw(step)
        else:
            answers = [await self._exchange(step["method"], self._bytes(step, known), step.get("after_records", 0))]
        known.at = time.time()
        for name, path in step.get("save", {}).items():
            known.same[f"saved {name}"] = _value_at(answers[-1].body, path)
        return answers

    async def _exchange(self, method: str, sent: bytes, after_records: int = 0) -> Answer:
        wire = await Wire.open(self._port)
        await wire.send(sent)
        answer = await asyncio.wait_for(wire.answer(method, after_records), PATIENCE_S)
        if after_records:
            wire.abort()
        else:
            wire.close()
        return answer

    async def _raw(self, step: dict[str, Any]) -> list[Answer]:
        wire = await Wire.open(self._port)
        for number, piece in enumerate(step["pieces"]):
            if number and step["pause_s"]:
                await asyncio.sleep(step["pause_s"])  # the case is about bytes that come apart
            await wire.send(self._body(piece))
        if step["half_close"]:
            wire.half_close()
        methods, answers = step["methods"], []
        for number in range(step["answer_count"]):
            method = methods[min(number, len(methods) - 1)]
            answers.append(await asyncio.wait_for(wire.answer(method), PATIENCE_S))
        if answers:
            answers[-1].closed = bool(answers[-1].fault) or await wire.is_closed(step["within_s"])
        wire.close()
        return answers

    async def _plain(self, method: str, path: str, body: bytes = b"") -> Answer:
        headers = [("Host", self._address), ("Content-Length", str(len(body)))]
        return await self._exchange(method, request(method, path, headers, body))

    async def _unload_all(self) -> None:
        """A list of running models must not depend on which cases came before."""
        deadline = time.monotonic() + PATIENCE_S
        while loaded := json.loads((await self._plain("GET", "/api/ps")).body)["models"]:
            assert time.monotonic() < deadline, f"still loaded: {loaded}"
            for model in loaded:
                await self._unload(model["name"])
            await asyncio.sleep(0.02)  # polling: only the server knows when it is done

    async def _unload(self, name: str) -> None:
        await self._plain("POST", "/api/generate", json.dumps({"model": name, "keep_alive": 0}).encode())

    # --- requests ------------------------------------------------------------------------

    def _bytes(self, step: dict[str, Any], known: Known) -> bytes:
        body = self._content(step, known)
        headers = {"Host": self._address, "User-Agent": "recorded", "Accept": "*/*"}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        elif step["method"] in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        given = step.get("headers", [])
        replaced = {name.lower() for name, _ in given}
        sent = [(name, value) for name, value in headers.items() if name.lower() not in replaced]
        sent += [(name, self._text(value)) for name, value in given if value is not None]
        return request(step["method"], self._text(step["path"]), sent, body or b"")

    def _content(self, step: dict[str, Any], known: Known) -> bytes | None:
        if "file" in step:
            return files.load(step["file"])
        if "text" in step:
            return self._body(step["text"])
        if "json" in step:
            return json.dumps(self._filled(step["json"], known), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return None

    def _body(self, piece: Any) -> bytes:
        """A piece of a body: text, bytes in base64, or text in which something repeats."""
        if isinstance(piece, str):
            return self._text(piece).encode("utf-8", "surrogatepass")
        if "base64" in piece:
            return base64.b64decode(piece["base64"])
        parts = [one if isinstance(one, str) else one[0] * one[1] for one in piece["repeat"]]
        return self._text("".join(parts)).encode("utf-8", "surrogatepass")

    def _text(self, text: str) -> str:
        return PLACE.sub(self._place, text)

    def _place(self, found: re.Match[str]) -> str:
        if found[1]:
            return self._address if found[1] == "addr" else str(self._port)
        if found[2] == "file":
            return files.load(found[3]).decode()
        digest = files.digest(found[3])
        return digest if found[2] == "blob" else "sha256:" + digest[7:].upper()

    def _filled(self, value: Any, known: Known | None = None) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._filled(one, known) for one in value]
        if isinstance(value, dict):
            if "<saved>" in value:
                assert known is not None
                return known.same[f"saved {value['<saved>']}"]
            return {self._text(key): self._filled(one, known) for key, one in value.items()}
        return value

    # --- judging -------------------------------------------------------------------------

    def _judge(self, step: dict[str, Any], answers: list[Answer], known: Known) -> None:
        expected = step["answers"]
        if step.get("as_set"):
            self._judge_set(step, answers, known)
            return
        if len(expected) != len(answers):
            raise Mismatch(f"{len(expected)} answers were recorded, {len(answers)} came")
        for one, answer, asked in zip(expected, answers, _each(step, len(answers)), strict=True):
            _judge_head(one, answer, self._address)
            if step.get("kind") != "hangup":
                self._judge_body(one, answer, asked, known)

    def _judge_set(self, step: dict[str, Any], answers: list[Answer], known: Known) -> None:
        """Which answers there are counts here, not who got which."""
        recorded = {(one["status"], one["body"]) for one in step["answers"]}
        left = set(recorded)
        for answer, asked in zip(answers, _each(step, len(answers)), strict=True):
            text = self._present(answer, asked)
            fitting = {one for one in recorded if one[0] == answer.status and fits(one[1], text)}
            if not fitting:
                raise Mismatch(f"{answer.status} {text} is none of {recorded}")
            left -= fitting
        if left:
            raise Mismatch(f"nobody got {left}")

    def _judge_body(self, expected: dict[str, Any], answer: Answer, step: dict[str, Any], known: Known) -> None:
        if "records" in expected:
            self._judge_records(expected, answer, step, known)
        elif "body" in expected:
            compare(expected["body"], self._present(answer, step), known)

    def _judge_records(self, expected: dict[str, Any], answer: Answer, step: dict[str, Any], known: Known) -> None:
        """Neighbours of one form count once: where the text was cut is free, that it grew is not."""
        text = self._scrubbed(answer.body)
        if answer.chunked != expected["chunked"] or not text.endswith("\n"):
            raise Mismatch(f"framed otherwise: chunked {answer.chunked}, ends with {text[-10:]!r}")
        lines = [line for line in text[:-1].split("\n") if not OPTIONAL.fullmatch(line)]
        if expected.get("arrival") == "several" and len(lines) > LONG and answer.reads <= 2:
            raise Mismatch("all records came at once")
        known.parts, shapes, place = {}, expected["records"], -1
        for line in lines:
            line = _kept(line, step["keep"]) if "keep" in step else line
            if place < 0 or not fits(shapes[place], line):
                place += 1
            if place == len(shapes):
                raise Mismatch(f"after the last recorded form came {line}")
            compare(shapes[place], line, known)
        if place != len(shapes) - 1:
            raise Mismatch(f"the stream ended before {shapes[place + 1]}")
        for name, count in expected.get("pieces", {}).items():
            parts = known.parts.get(name, [])
            if min(len(parts), 2) != ("none", "one", "several").index(count):
                raise Mismatch(f"{name} came in {len(parts)} pieces, {count} were recorded")
            compare(expected["joined"][name], f'"{"".join(parts)}"', known)

    def _present(self, answer: Answer, step: dict[str, Any]) -> str:
        """The body in the form of the recording: no address, no path, no digest of weights; lists by name."""
        text = self._scrubbed(answer.body)
        if "keep" in step and text.startswith("{"):
            text = _kept(text, step["keep"])
        if step.get("path", "").startswith(("/api/tags", "/api/ps")) and text.startswith('{"models":['):
            text = _by_name(text)
        return text

    def _scrubbed(self, body: bytes) -> str:
        text = body.decode().replace(self._address, "{addr}")
        text = STORE.sub("{store}/blobs/sha256-", text)
        for name in NAMED:
            mark, digits = f"{{weights:{name}}}", files.digest(name)[7:]
            text = text.replace(digits, mark).replace(digits.upper(), mark.upper())
        return text


def _judge_head(expected: dict[str, Any], answer: Answer, address: str) -> None:
    headers = [[name, value.replace(address, "{addr}")] for name, value in sorted(answer.headers) if name in HEADERS]
    if not any(name == "retry-after" for name, _ in expected["headers"]):  # telling when to come back is welcome
        headers = [pair for pair in headers if pair[0] != "retry-after"]
    recorded = (expected["status"], expected["headers"], expected.get("fault", ""), expected.get("interim", []))
    came = (answer.status, headers, answer.fault, answer.interim)
    if recorded != came:
        raise Mismatch(f"\nrecorded {recorded}\ncame     {came} {answer.body[:300]!r}")
    if answer.closed is not None and answer.closed != expected.get("closed", False):
        raise Mismatch(f"the connection was {'closed' if answer.closed else 'kept'}")


def _requests(step: dict[str, Any]) -> list[dict[str, Any]]:
    return step["requests"] if step.get("kind") == "parallel" else [step]


def _each(step: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The request that each answer belongs to."""
    asked = _requests(step)
    return asked + [asked[-1]] * (count - len(asked))


def _value_at(body: bytes, path: str) -> Any:
    value = json.loads(body.decode().rstrip("\n").split("\n")[-1])
    for key in path.split("."):
        value = value[key]
    return value


def _pieces(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where each value of the list or object that opens before *start* begins and ends, keys included."""
    decoder, at = json.JSONDecoder(), start
    while text[at] not in "]}":
        _, end = decoder.raw_decode(text, at)
        yield at, end
        at = end + (text[end] in ",:")


def _kept(text: str, keys: list[str]) -> str:
    """An object's text with nothing but some of its keys, and the error if there is one."""
    spans = list(_pieces(text, 1))
    pairs = zip(spans[::2], spans[1::2], strict=True)
    chosen = [text[a:d] for (a, b), (_, d) in pairs if json.loads(text[a:b]) in (*keys, "error")]
    return "{" + ",".join(chosen) + "}" + text[text.rindex("}") + 1 :]


def _by_name(text: str) -> str:
    """A list of models without those that no case made, in the order of their names."""
    opening = text.index("[") + 1
    models = [text[a:b] for a, b in _pieces(text, opening)]
    end = text.rindex("]")
    named = sorted((json.loads(one)["name"], one) for one in models)
    return text[:opening] + ",".join(one for name, one in named if OURS.search(name)) + text[end:]
