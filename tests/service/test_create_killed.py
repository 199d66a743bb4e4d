"""A create that is killed at every point of its way to the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollamad.store.blobs import BlobWriter
from ollamad.types import Message

#: The calls that change the disk; the process dies before or, for writes, in the middle of one of them.
_CHANGES = ("replace", "fsync", "fchmod", "unlink", "utime", "mkdir", "rmdir", "rename")


class _Fuse:
    """Kills this process at the n-th change of the disk."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def burn(self) -> bool:
        """One step; True on the last, where the caller may still do harm before it calls `blow`."""
        self._left -= 1
        return self._left < 0

    def blow(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wire(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            if self.burn():
                self.blow()
            return function(*args, **kwargs)

        return changed


def _work(bench: Any, data: bytes, fuse: _Fuse) -> None:
    """In the child: upload, make a model over an old one, make another from it."""
    for name in _CHANGES:
        setattr(os, name, fuse.wire(getattr(os, name)))
    write = BlobWriter.write

    def half(writer: BlobWriter, piece: bytes) -> None:
        if fuse.burn():
            write(writer, bytes(piece)[: len(piece) // 2])
            fuse.blow()
        write(writer, piece)

    BlobWriter.write = half  # type: ignore[method-assign,assignment]

    async def work() -> None:
        digest = await bench.upload(data)
        await bench.create("over", files={"a.gguf": digest}, system="new", parameters={"seed": 1})
        await bench.create("child", from_name="over", template="{{ .Prompt }}", messages=(Message("user", "hi"),))

    asyncio.run(work())


def _killed(bench: Any, data: bytes, steps: int) -> bool:
    """Work in a child that dies after *steps* changes; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            _work(bench, data, _Fuse(steps))
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def _check(bench: Any) -> set[str]:
    """What holds after a restart; returns the models that are there."""
    found = {row.name for row in asyncio.run(_list(bench))}
    used: set[str] = set()
    for stored in bench.store.models():
        for digest in stored.manifest.digests():
            bench.store.verify_blob(digest)
            used.add(digest.removeprefix("sha256:"))
        model = asyncio.run(bench.resolver.resolve(stored.name.model))
        assert model.capabilities == (("completion", "tools") if stored.name.model == "old" else ("completion",))
    bench.store.prune(time.time() + 7200)
    assert bench.blobs() == used
    assert all(path.count("/") == 3 for path in bench.manifests())
    for digest in bench.blobs():
        assert hashlib.sha256(bench.store.blob_path(f"sha256:{digest}").read_bytes()).hexdigest() == digest
    return found


async def _list(bench: Any) -> Any:
    return await bench.library.list()


def test_killed_at_every_step(make_bench: Callable[..., Any], gguf: Callable[..., bytes], tmp_path: Path) -> None:
    """After kill -9 anywhere each listed model is whole, and after the grace hour nothing else is left."""
    first, second = (gguf({"general.architecture": "llama", "general.file_type": n}, ["a"]) for n in (1, 2))

    async def prepare() -> None:
        bench = make_bench()
        files = {"a.gguf": await bench.upload(first)}
        await bench.create("old", files=files, template="{{ .Prompt }}{{ .Tools }}")
        await bench.create("over", files=files, system="old")

    asyncio.run(prepare())
    clean = tmp_path / "clean"
    shutil.copytree(tmp_path / "models", clean)
    seen, steps = set(), 0
    while True:
        shutil.rmtree(tmp_path / "models")
        shutil.copytree(clean, tmp_path / "models")
        killed = _killed(make_bench(), second, steps)
        found = _check(make_bench())
        assert {"old:latest", "over:latest"} <= found
        seen.add(frozenset(found))
        if not killed:
            break
        steps += 1
    assert steps >= 50
    assert seen == {
        frozenset(("old:latest", "over:latest")),
        frozenset(("old:latest", "over:latest", "child:latest")),
    }
