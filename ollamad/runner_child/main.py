"""A runner: one loaded model, driven by messages on a socket. ``python -m ollamad.runner_child --fd N ...``."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ollamad.children.leash import die_with, limit
from ollamad.errors import PluginError, WireError
from ollamad.wire.messages import Cancel, Failed, FailedKind, Load, Pause, Ping, Pong, Stop, Submit
from ollamad.wire.socket_channel import SocketChannel

if TYPE_CHECKING:
    from ollamad.runner_child.desk import Desk

#: How a runner ends: the daemon reads them as "told to" and as reasons of a failed load.
EXIT_OK, EXIT_FATAL, EXIT_REJECTED, EXIT_MEMORY = 0, 1, 3, 4

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="ollamad.runner_child")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of the connected socket")
    parser.add_argument("--store", type=Path, required=True, help="folder that holds blobs/")
    parser.add_argument("--parent", type=int, required=True, help="process id of the daemon")
    parser.add_argument("--plugin-extra", action="append", default=[], help="module:attribute of a plugin")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    limit()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    os.set_inheritable(options.fd, False)
    channel = SocketChannel(socket.socket(fileno=options.fd))
    try:
        channel.handshake(os.getpid())
        first = channel.receive()
        if not isinstance(first, Load):
            return EXIT_OK  # the daemon changed its mind
        return _serve(channel, first, options.store, options.plugin_extra)
    except ConnectionError:
        return EXIT_OK
    except WireError as error:
        log.error("the daemon cannot be understood: %s", error)
        return EXIT_FATAL


def _serve(channel: SocketChannel, load: Load, store: Path, plugin_extra: Sequence[str]) -> int:
    # After the handshake, so that the daemon sees a sign of life before the slow imports.
    from ollamad.plugin._manager import load_backend
    from ollamad.plugin.backend import BackendError, BackendOutOfMemory, ModelRejected
    from ollamad.runner_child.desk import Desk
    from ollamad.runner_child.loading import load as load_model
    from ollamad.runner_child.outbox import Outbox

    def on_fatal(error: BaseException) -> None:
        log.critical("the engine failed: %s: %s", type(error).__name__, error)
        outbox.close()  # the requests' ends
        os._exit(EXIT_FATAL)

    def refuse(kind: FailedKind, message: object, status: int) -> int:
        channel.send(Failed("", kind, str(message)))
        return status

    outbox = Outbox(channel)
    try:
        backend = load_backend(load.spec.backend, plugin_extra)
        loaded = load_model(backend, load.spec, store, report=channel.send, on_fatal=on_fatal)
    except BackendOutOfMemory as error:
        return refuse("memory", error, EXIT_MEMORY)
    except MemoryError:
        return refuse("memory", "out of memory", EXIT_MEMORY)
    except (ModelRejected, FileNotFoundError) as error:
        return refuse("rejected", error, EXIT_REJECTED)
    except (BackendError, PluginError, ImportError, OSError) as error:
        log.exception("the load failed")
        return refuse("internal", error, EXIT_FATAL)
    channel.send(loaded.ready)
    desk = Desk(loaded, outbox.put)
    _loop(channel, desk)
    desk.close()
    return EXIT_OK


def _loop(channel: SocketChannel, desk: Desk) -> None:
    """Answer messages until `Stop` or the end of the connection. Nothing here waits for a model."""
    while (message := channel.receive()) is not None:
        if isinstance(message, Submit):
            desk.submit(message)
        elif isinstance(message, Cancel):
            desk.cancel(message)
        elif isinstance(message, Pause):
            desk.pause(message)
        elif isinstance(message, Ping):
            channel.send(_pong(message.number, desk))
        elif isinstance(message, Stop):
            return


def _pong(number: int, desk: Desk) -> Pong:
    counters = desk.counters()
    return Pong(
        number=number,
        step=counters.step,
        prefilled_tokens=counters.prefilled,
        reused_tokens=counters.reused,
        decoded_tokens=counters.decoded,
        batch_tokens=counters.batch_tokens,
        cells_used=counters.cells_used,
        cells_kept=counters.cells_kept,
        cells_total=counters.cells_total,
        sampling_ns=counters.sampling_ns,
        running=counters.running,
        waiting=counters.waiting,
        guessed_tokens=counters.guessed,
        accepted_tokens=counters.accepted,
        threads=counters.threads,
        thread_changes=counters.thread_changes,
    )
