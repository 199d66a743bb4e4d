"""What the children of the tests do, each a kind of job."""

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any


def run(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    return globals()[arguments["what"]](arguments, progress)


def echo(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    progress(0.5, "half")
    print("noise on standard output")
    return {
        "got": arguments["value"],
        "niceness": os.nice(0),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "environment": sorted(os.environ),
    }


def fail(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    raise ValueError("cannot open /secret/blobs/sha256-1")


def leave(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    print("error: giving up on /secret/file", file=sys.stderr)
    sys.exit(5)


def crash(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    print("GGML_ASSERT(n > 0) failed", file=sys.stderr, flush=True)
    os.abort()


def segfault(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    return ctypes.string_at(0)


def hang(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    progress(0.0, str(os.getpid()))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    threading.Event().wait()


def eat(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    return {"size": len(bytearray(2 * 1024**3))}


def scribble(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    """Write what is no answer on the descriptor of the answers."""
    os.write(int(sys.argv[sys.argv.index("--fd") + 1]), arguments["text"].encode())
    threading.Event().wait()


def flat(arguments: Mapping[str, Any], progress: Callable[[float, str], None]) -> Any:
    return 7
