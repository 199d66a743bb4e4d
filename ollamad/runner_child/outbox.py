"""Messages on their way to the daemon: whoever has one puts it here, one thread writes."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from ollamad.errors import WireError
from ollamad.wire.messages import Done, Failed, Up
from ollamad.wire.socket_channel import SocketChannel

#: Messages of one write at most; a step of 256 sequences.
_BATCH = 256
_CLOSE_S = 5.0


class Outbox:
    """`put` never blocks, so a daemon that is stopped stops no engine; it pauses what it cannot take."""

    def __init__(self, channel: SocketChannel) -> None:
        self._channel = channel
        self._queue: SimpleQueue[Up | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="outbox", daemon=True)
        self._thread.start()

    def put(self, message: Up) -> None:
        """Send *message* after those that were put before it."""
        self._queue.put(message)

    def close(self) -> None:
        """Write what waits, then end the thread; a daemon that does not read is not waited for long."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)

    def _write(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while len(batch) < _BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            going = None not in batch
            try:
                self._send([one for one in batch if one is not None])
            except ConnectionError:
                os._exit(0)  # the daemon is gone, and with it all that this process is for

    def _send(self, batch: Sequence[Up]) -> None:
        if not any(isinstance(message, Done) for message in batch):
            self._channel.send_all(batch)
            return
        for message in batch:
            try:
                self._channel.send(message)
            except WireError as error:
                # Only vectors or token ids can be over the size limit; that fails their request alone.
                assert isinstance(message, Done), "a message other than Done is over the size limit"
                self._channel.send(Failed(message.request_id, "internal", str(error)))
