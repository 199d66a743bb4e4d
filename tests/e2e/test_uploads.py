"""Uploads and creates that are large, wrong, left, or cut by a `kill -9`: nothing of them stays, nothing is broken."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gguf_writer import TensorSpec, build
from unharmed import Bystander, connect, error_of, head, read_all, rss_kib, unharmed

#: The issue's figure is 2 GiB: OLLAMAD_TEST_UPLOAD_BYTES=2147483648 uploads as much; the default keeps a run short.
UPLOAD_BYTES = int(os.environ.get("OLLAMAD_TEST_UPLOAD_BYTES", 256 << 20))
MOST_GROWTH_KIB = 32 * 1024
CHUNK = bytes(1 << 20)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, daemon_class: Callable[..., Any]) -> Iterator[Any]:
    """One daemon with a store of its own."""
    one = daemon_class(tmp_path_factory.mktemp("uploads")).start()
    yield one
    one.close()


def wait_until(holds: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def blobs(daemon: Any) -> set[str]:
    folder = daemon.models / "blobs"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def peak_kib(pid: int) -> int:
    """The most that was ever resident."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_large_upload(daemon: Any) -> None:
    """A sparse file of many times the daemon's size passes through it: the daemon grows by 32 MiB at most.

    OLLAMAD_TEST_UPLOAD_BYTES sets the size.
    """
    sha256 = hashlib.sha256()
    for _ in range(UPLOAD_BYTES // len(CHUNK)):
        sha256.update(CHUNK)
    digest = f"sha256:{sha256.hexdigest()}"
    before = rss_kib(daemon.pid)
    with unharmed(daemon), Bystander(daemon):
        with connect(daemon, 120) as sock:
            sock.sendall(head("POST", f"/api/blobs/{digest}", Content_Length=str(UPLOAD_BYTES), Connection="close"))
            for _ in range(UPLOAD_BYTES // len(CHUNK)):
                sock.sendall(CHUNK)
            assert read_all(sock).startswith(b"HTTP/1.1 201 ")
        assert peak_kib(daemon.pid) - before <= MOST_GROWTH_KIB
        path = daemon.models / "blobs" / digest.replace(":", "-")
        assert path.stat().st_size == UPLOAD_BYTES
        path.unlink()


def test_upload_under_a_wrong_digest(daemon: Any) -> None:
    """The bytes are kept under their own digest, as recorded, and never under the promised one."""
    data, promised = b"not what was promised", digest_of(b"something else")
    with unharmed(daemon):
        status, answer = daemon.request("POST", f"/api/blobs/{promised}", data)
        assert (status, error_of(answer)) == (
            400,
            f'digest mismatch, expected "{promised}", got "{digest_of(data)}"',
        )
    assert blobs(daemon) == {digest_of(data).replace(":", "-")}
    (daemon.models / "blobs" / digest_of(data).replace(":", "-")).unlink()


@pytest.mark.parametrize("how", ["closed", "reset", "half closed"])
def test_client_gone_in_an_upload(daemon: Any, how: str) -> None:
    """A client that leaves in the middle of an upload leaves no file behind."""
    before = blobs(daemon)
    with unharmed(daemon), Bystander(daemon):
        sock = connect(daemon)
        sock.sendall(head("POST", f"/api/blobs/{digest_of(b'x')}", Content_Length=str(8 << 20)) + CHUNK * 2)
        wait_until(lambda: blobs(daemon) > before)
        if how == "half closed":
            sock.shutdown(socket.SHUT_WR)
            answer = read_all(sock)
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert error_of(answer.partition(b"\r\n\r\n")[2]) == "unexpected EOF"
        elif how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
        wait_until(lambda: blobs(daemon) == before)


def test_many_uploads_of_one_blob(daemon: Any) -> None:
    """Eight clients that upload the same file at once all succeed, and one file is there."""
    data = os.urandom(1 << 20)
    statuses: list[int] = []

    def upload() -> None:
        statuses.append(daemon.request("POST", f"/api/blobs/{digest_of(data)}", data)[0])

    with unharmed(daemon):
        threads = [threading.Thread(target=upload) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert set(statuses) <= {200, 201}
    assert len(statuses) == 8
    assert blobs(daemon) == {digest_of(data).replace(":", "-")}


# --- kill -9 ---------------------------------------------------------------------------------------


#: Where a create is when it is killed: bytes of the upload that were sent, or the line of progress just read.
POINTS = [
    "upload began",
    "upload half",
    "parsing GGUF",
    "creating new layer",
    "using existing layer",
    "writing manifest",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_a_create(make_daemon: Callable[..., Any], point: str) -> None:
    """After `kill -9` and a restart the models listed are whole and run, and what is left goes after the hour.

    The campaign over every call of a create: tests/store/test_crash.py, tests/service/test_create_killed.py.
    """
    daemon = make_daemon().start()
    daemon.json("POST", "/api/create", {"model": "first", "from": "demo", "system": "Be brief.", "stream": False})
    with ExitStack() as stack:
        interrupt(daemon, point, stack)
        daemon.stop(signal.SIGKILL)
    leave_for_two_hours(daemon)
    daemon.start()
    wait_until(lambda: temporary(daemon) == set())
    listed = {one["name"] for one in daemon.json("GET", "/api/tags")["models"]}
    assert {"demo:latest", "first:latest"} <= listed <= {"demo:latest", "first:latest", "second:latest"}
    for name in listed:
        body = {"model": name, "prompt": "Ping", "stream": False, "options": {"num_predict": 2}}
        assert daemon.request("POST", "/api/generate", body)[0] == 200
    wait_until(lambda: unreferenced(daemon) == set())
    for path in (daemon.models / "blobs").iterdir():
        assert path.name == digest_of(path.read_bytes()).replace(":", "-")
    assert daemon.stop() == 0


def interrupt(daemon: Any, point: str, stack: ExitStack) -> None:
    """Make the model `second` up to *point*; *stack* closes the connections."""
    data = build({"general.architecture": "llama"}, [TensorSpec("t", (1 << 18,), seed=1)])
    sock = stack.enter_context(connect(daemon))
    length = str(len(data))
    sock.sendall(head("POST", f"/api/blobs/{digest_of(data)}", Content_Length=length, Connection="close"))
    if point.startswith("upload"):
        sock.sendall(data[: len(data) // 2] if point == "upload half" else b"")
        wait_until(lambda: temporary(daemon))
        return
    sock.sendall(data)
    assert read_all(sock).startswith(b"HTTP/1.1 201 ")
    source: dict[str, Any] = {"from": "first"}
    if point == "parsing GGUF":
        source = {"files": {"model.gguf": digest_of(data)}}
    body = {"model": "second", **source, "system": "Be long.", "parameters": {"top_k": 3}}
    for record in stack.enter_context(daemon.stream("/api/create", body)):
        if record.get("status", "").startswith(point):
            return
    pytest.fail(f"{point} was never said")


def referenced(daemon: Any) -> set[str]:
    digests = set()
    for path in (daemon.models / "manifests").rglob("*"):
        if path.is_file():
            manifest = json.loads(path.read_text())
            digests |= {one["digest"].replace(":", "-") for one in (manifest["config"], *manifest["layers"])}
    return digests


def unreferenced(daemon: Any) -> set[str]:
    return blobs(daemon) - referenced(daemon)


def temporary(daemon: Any) -> set[str]:
    return {name for name in blobs(daemon) if len(name) != len("sha256-") + 64}


def leave_for_two_hours(daemon: Any) -> None:
    """Make every file as old as if the daemon had been off that long."""
    then = time.time() - 7200
    for path in (daemon.models / "blobs").iterdir():
        os.utime(path, (then, then))
