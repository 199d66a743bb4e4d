"""Measures what the daemon costs and how fast it reacts: `python tests/bench/figures.py`; medians of several runs.

Needs an idle machine to mean anything; prints one line per figure with what it should reach.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "e2e")]

import faults  # noqa: E402 - the tests are no package
from conftest import Daemon, children_of, rss_kib  # noqa: E402
from unharmed import percentile  # noqa: E402

from ollamad.testing.fake_file import write_fake_model  # noqa: E402

#: Reads the answers of N endless streams in a process of its own, so that this one only measures.
STREAMS = """
import json, selectors, socket, sys
port, n, body = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
ready = selectors.DefaultSelector()
for _ in range(n):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(b"POST /api/generate HTTP/1.1\\r\\nHost: localhost\\r\\n")
    one.sendall(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    ready.register(one, selectors.EVENT_READ)
while ready.get_map():
    for key, _ in ready.select():
        if not key.fileobj.recv(65536):
            ready.unregister(key.fileobj)
"""


def row(figure: str, value: str, reach: str) -> None:
    print(f"{figure:<66} {value:>24}   {reach}", flush=True)


def ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.0f} ms of {len(seconds)}"


def spread(seconds: list[float]) -> str:
    return f"{percentile(seconds, 0.5) * 1e3:.0f} / {percentile(seconds, 0.95) * 1e3:.0f} ms of {len(seconds)}"


def pss_kib(pid: int) -> int:
    """Memory of a process with its share of what it shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("\nPss:")[1].split()[0])


@contextmanager
def daemon_in(*flags: str, **environment: str) -> Iterator[Any]:
    """A daemon that has seen to its start-up work."""
    with tempfile.TemporaryDirectory(prefix="figures-") as home:
        daemon = Daemon(Path(home), **environment)
        try:
            daemon.start(*(flags or faults.ADMIN))
            faults.until(lambda: daemon.json("GET", "/ollamad/status")["devices"] is not None)
            yield daemon
            daemon.stop()
        finally:
            daemon.close()


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- the figures ----------------------------------------------------------------------------


def memory() -> None:
    resident, shares = [], []
    for _ in range(3):
        with daemon_in() as daemon:
            resident.append(rss_kib(daemon.pid) * 1024 / 1e6)
            shares.append(sum(map(pss_kib, [daemon.pid, *children_of(daemon.pid)])) * 1024 / 1e6)
    row("idle daemon RSS", f"{statistics.median(resident):.1f} MB of {len(resident)}", "<= 60 MB")
    row("sum of PSS of all processes, no model", f"{statistics.median(shares):.1f} MB of {len(shares)}", "<= 75 MB")


def start() -> None:
    ready, answered = [], []
    for _ in range(8):
        with tempfile.TemporaryDirectory(prefix="figures-") as home:
            daemon = Daemon(Path(home), NOTIFY_SOCKET=f"{home}/notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
                ear.bind(f"{home}/notify")
                started = time.perf_counter()
                daemon.start(wait=False)
                assert ear.recv(4096).startswith(b"READY=1")
                ready.append((time.perf_counter() - started, cpu_s(daemon.pid)))
            daemon.stop()
            started = time.perf_counter()
            daemon.start(wait=False)
            faults.until(daemon.answers)
            answered.append(time.perf_counter() - started)
            daemon.stop()
    # The first one wrote the bytecode.
    walls, cpus = zip(*ready[1:], strict=True)
    row("start -> READY", ms(walls), "<= 500 ms")
    row("start -> READY, processor time", ms(cpus), "not asked for")
    row("start -> first answer of /api/version", ms(answered[1:]), "<= 500 ms")


def client() -> None:
    command = [str(Path(sys.executable).with_name("ollamactl")), "list"]
    with daemon_in() as daemon:
        environment = daemon.environ()
        runs = [timed(lambda: subprocess.check_output(command, env=environment)) for _ in range(15)]
    row("ollamactl list, wall", ms(runs), "<= 150 ms")


def cold_load() -> None:
    runs = []
    with daemon_in() as daemon:
        for _ in range(7):
            with daemon.stream("/api/generate", {"model": "demo", "prompt": "Who are you?"}) as stream:
                runs.append(timed(stream.next))
                list(stream)
            unload(daemon, "demo")
    row("demo: cold load -> first token", ms(runs), "<= 800 ms")


def unload(daemon: Any, name: str) -> None:
    daemon.post("/api/generate", {"model": name, "keep_alive": 0})
    faults.until(lambda: not faults.model_status(daemon, name))


def fast_daemon() -> Any:
    """The demo model's file in the fake backend, which fills a client's buffers sooner."""
    return daemon_in(*faults.ADMIN, *faults.FAKE, FAKE_END_EVERY="0")


def client_gone() -> None:
    with daemon_in(OLLAMA_NUM_PARALLEL="1") as single, fast_daemon() as fast:
        for phase, runs in {queued: 20, loading: 20, prefilling: 20, decoding: 20, blocked: 10}.items():
            daemon = fast if phase is blocked else single
            took = [phase(daemon, number) for number in range(runs)]
            row(f"client gone while {phase.__name__} -> slot free (p50 / p95)", spread(took), "p95 <= 300 ms")
        for work in (long_prefill, long_decode):
            took = [handed_over(single, work(number)) for number in range(20)]
            row(f"client gone in a {work.__name__} -> next one's first token", spread(took), "not asked for")


def freed(daemon: Any) -> None:
    faults.until(lambda: faults.is_free(daemon, "demo"))


def queued(daemon: Any, _number: int) -> float:
    with daemon.stream("/api/generate", faults.endless("demo")) as running:
        running.next()
        waiting = daemon.stream("/api/generate", faults.one_token("demo"))
        faults.until(lambda: faults.model_status(daemon, "demo").get("waiting") == 1)
        waiting.close()
        took = timed(lambda: faults.until(lambda: faults.model_status(daemon, "demo")["waiting"] == 0))
    freed(daemon)
    return took


def loading(daemon: Any, number: int) -> float:
    unload(daemon, "demo")
    stream = daemon.stream("/api/generate", faults.one_token("demo"))
    faults.until(lambda: faults.is_loading(daemon, "demo"))
    threading.Event().wait(0.02 * number)  # anywhere in the load
    stream.close()
    return timed(lambda: faults.until(lambda: faults.is_free(daemon, "demo")))


def prefilling(daemon: Any, number: int) -> float:
    daemon.post("/api/generate", faults.one_token("demo"))
    stream = daemon.stream("/api/generate", faults.long_prompt("demo", number))
    faults.until(lambda: faults.model_status(daemon, "demo").get("busy") == 1)
    stream.close()
    return timed(lambda: freed(daemon))


def decoding(daemon: Any, _number: int) -> float:
    stream = daemon.stream("/api/generate", faults.endless("demo"))
    for _ in range(20):
        stream.next()
    stream.close()
    return timed(lambda: freed(daemon))


def blocked(daemon: Any, _number: int) -> float:
    with faults.stopped_reader(daemon, "demo", records=1000):
        pass
    return timed(lambda: freed(daemon))


def long_prefill(number: int) -> Any:
    return faults.long_prompt("demo", 100 + number)


def long_decode(_number: int) -> Any:
    return faults.endless("demo")


def handed_over(daemon: Any, body: Any) -> float:
    """With one slot: from the leaving of its holder to the first record of who waits for it."""
    stream = daemon.stream("/api/generate", body)
    faults.until(lambda: faults.model_status(daemon, "demo").get("busy") == 1)
    with daemon.stream("/api/generate", faults.one_token("demo")) as waiting:
        faults.until(lambda: faults.model_status(daemon, "demo").get("waiting") == 1)
        stream.close()
        return timed(waiting.next)


def tags() -> None:
    """Answers of /api/tags, one after the other, beside eight streams and a model that is loaded again and again."""
    with daemon_in() as daemon:
        faults.upload(daemon, "other", faults.other_demo())
        daemon.post("/api/generate", faults.one_token("demo"))
        body = faults.json.dumps(faults.endless("demo"))
        readers = subprocess.Popen([sys.executable, "-c", STREAMS, str(daemon.port), "8", body])
        faults.until(lambda: faults.model_status(daemon, "demo")["busy"] == 8)
        enough = threading.Event()
        loads = 0

        def load() -> None:
            nonlocal loads
            while not enough.is_set():
                daemon.post("/api/generate", faults.one_token("other"))
                unload(daemon, "other")
                loads += 1

        loader = threading.Thread(target=load)
        loader.start()
        runs = []
        while loads < 3 or len(runs) < 1000:
            runs.append(timed(lambda: daemon.get("/api/tags")))
        enough.set()
        loader.join()
        readers.kill()
        readers.wait()
    p99 = f"{percentile(runs, 0.99) * 1e3:.1f} ms of {len(runs)}"
    row(f"/api/tags p99 beside 8 streams and {loads} loads", p99, "<= 20 ms")


def killed() -> None:
    """Children that outlive a killed daemon by a second."""
    for phase in ("idle", "load", "10 s decode", "job"):
        with tempfile.TemporaryDirectory(prefix="figures-") as home:
            gates = Path(home, "gates")
            gates.mkdir()
            daemon = Daemon(Path(home), FAKE_GATE_DIR=str(gates) if phase == "job" else "")
            gate = {"job": "hold-probe", "10 s decode": "slow-decode"}.get(phase, "none")
            (gates / gate).write_text("10")
            daemon.start(*faults.ADMIN, *faults.FAKE)
            with leaving(daemon, phase, gates):
                children = children_of(daemon.pid)
                assert children, phase
                os.kill(daemon.pid, signal.SIGKILL)
                threading.Event().wait(1.0)
                left = [pid for pid in children if Path(f"/proc/{pid}/cmdline").exists() and _runs(pid)]
            daemon.close()
        row(f"kill -9 of the daemon ({phase}): children left after 1 s", f"{len(left)} of {len(children)}", "0")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def leaving(daemon: Any, phase: str, gates: Path) -> Iterator[None]:
    """The daemon is in *phase*."""
    if phase == "job":
        faults.until((gates / "reached-probe").exists)
        yield
        return
    content = write_fake_model(gates / "model.gguf", gate_dir="" if phase == "idle" else str(gates), end_every=0)
    faults.upload(daemon, "fake", content.read_bytes())
    if phase == "load":
        (gates / "hold-load").touch()
    stream = daemon.stream("/api/generate", faults.one_token("fake"))
    if phase == "load":
        faults.until((gates / "reached-load").exists)
    elif phase == "idle":
        stream.next()
    else:
        faults.until(lambda: faults.model_status(daemon, "fake").get("busy") == 1)
    yield
    stream.close()


#: Bytecode is kept, as on a machine where the package was installed; each figure with a start has a run before.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

FIGURES = {one.__name__: one for one in (memory, start, client, cold_load, client_gone, tags, killed)}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemons end with it
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
