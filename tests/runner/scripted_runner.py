"""A runner without an engine: it speaks the wire and does as it is told.

The backend of the `LoadSpec` says how loading goes, the prompt of a `Generate` what happens in a request.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ollamad.children.leash import die_with, limit
from ollamad.types import Memory
from ollamad.wire.messages import (
    Cancel,
    Delta,
    Done,
    Failed,
    Generate,
    Load,
    Pause,
    Ping,
    Pong,
    Progress,
    Ready,
    Stop,
    Submit,
)
from ollamad.wire.socket_channel import SocketChannel

READY = Ready((Memory("CPU", "cpu", 1, 2, 3),), 4096, 4, 512, 4096, 100, 8, True, True, False)
FLOOD = "f" * 1024


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Script:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.channel = SocketChannel(sock)
        self.cancelled: set[str] = set()
        self.paused: set[str] = set()
        self.changed = threading.Condition()

    def load(self, how: str) -> None:
        match how:
            case "reject":
                self.channel.send(Failed("", "rejected", "bad magic in /secret/blobs/sha256-1"))
                sys.exit(3)
            case "reject-silently":
                say("error loading model: /secret/blobs/sha256-1: unknown architecture")
                sys.exit(3)
            case "memory":
                self.channel.send(Failed("", "memory", "needs 9 GiB"))
                sys.exit(4)
            case "memory-words":
                say("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory")
                sys.exit(1)
            case "broken":
                say("loading")
                say("ValueError: Error: something broke in /secret/place/file.py")
                sys.exit(7)
            case "quiet-exit":
                sys.exit(0)
            case "abort":
                os.abort()
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                say("error: still thinking")
                Path("/proc/self/comm").write_text("hanging")
                threading.Event().wait()
            case "garbage":
                self.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" * 10)
                threading.Event().wait()
            case "hang-up":
                self.sock.shutdown(socket.SHUT_RDWR)
                threading.Event().wait()
            case "chatty":  # signs of life only on the output
                for _ in range(8):
                    time.sleep(0.15)
                    say("still loading")
            case "says":
                say("just so")
            case "progress":
                for step in range(8):
                    time.sleep(0.15)
                    self.channel.send(Progress(step / 8))
            case "grandchild":
                if os.fork() == 0:
                    threading.Event().wait()
            case "environment":
                say(f"error: {sorted(os.environ)}")
                sys.exit(1)
        self.channel.send(READY)

    def serve(self) -> None:
        while (message := self.channel.receive()) is not None:
            match message:
                case Load():
                    self.load(message.spec.backend)
                case Submit(task=Generate() as task):
                    threading.Thread(target=self.work, args=(message.request_id, task.prompt), daemon=True).start()
                case Cancel():
                    with self.changed:
                        self.cancelled.add(message.request_id)
                        self.changed.notify_all()
                case Pause():
                    with self.changed:
                        (self.paused.add if message.paused else self.paused.discard)(message.request_id)
                        self.changed.notify_all()
                case Ping():
                    self.channel.send(Pong(message.number, running=len(self.paused), waiting=len(self.cancelled)))
                case Stop():
                    return

    def work(self, request_id: str, prompt: str) -> None:
        what, _, argument = prompt.partition(":")
        task: Callable[[str, str], None] = getattr(self, f"do_{what}")
        try:
            task(request_id, argument)
        except ConnectionError:
            return

    def do_count(self, request_id: str, argument: str) -> None:
        for number in range(int(argument)):
            self.channel.send(Delta(request_id, f"{request_id}/{number} "))
        self.channel.send(Done(request_id, reason="stop"))

    def do_fail(self, request_id: str, argument: str) -> None:
        self.channel.send(Failed(request_id, "too_long", argument))

    def do_exit(self, request_id: str, argument: str) -> None:
        self.channel.send(Delta(request_id, "last"))
        say("GGML_ASSERT(/src/ggml/ggml.c:77: x > 0) failed" if argument else "bye")
        os._exit(int(argument or 0))

    def do_kill(self, request_id: str, argument: str) -> None:
        self.channel.send(Delta(request_id, "last"))
        os.kill(os.getpid(), signal.SIGKILL)

    def do_stop(self, request_id: str, argument: str) -> None:
        self.channel.send(Delta(request_id, "last"))
        os.kill(os.getpid(), signal.SIGSTOP)

    def do_garbage(self, request_id: str, argument: str) -> None:
        self.channel.send(Delta(request_id, "last"))
        self.sock.sendall(b"\xff" * 100)

    def do_hang(self, request_id: str, argument: str) -> None:
        """Nothing until cancelled; then one late delta and the failure."""
        with self.changed:
            self.changed.wait_for(lambda: request_id in self.cancelled)
        self.channel.send(Delta(request_id, "late"))
        self.channel.send(Failed(request_id, "cancelled", "cancelled"))

    def do_flood(self, request_id: str, argument: str) -> None:
        """Deltas of 1 KiB, as told by `Pause`, up to the number in *argument* or until cancelled."""
        sent = 0
        while not argument or sent < int(argument):
            with self.changed:
                self.changed.wait_for(lambda: request_id not in self.paused or request_id in self.cancelled)
                if request_id in self.cancelled:
                    return
            self.channel.send(Delta(request_id, FLOOD))
            sent += 1
        self.channel.send(Done(request_id, reason="stop"))

    def do_deaf(self, request_id: str, argument: str) -> None:
        """As flood, but pauses are not heard."""
        while request_id not in self.cancelled:
            self.channel.send(Delta(request_id, FLOOD))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--plugin-extra", action="append", default=[])
    options = parser.parse_args()
    die_with(options.parent)
    limit()
    script = Script(socket.socket(fileno=options.fd))
    script.channel.handshake(os.getpid())
    script.serve()


if __name__ == "__main__":
    main()
