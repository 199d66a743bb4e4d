"""Requests between the main loop and the engine: each gets exactly one end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from ollamad.runner_child.desk import Desk
from ollamad.runner_child.loading import Loaded, load
from ollamad.testing.fake_backend import FakeBackend
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions
from ollamad.types import Message, SamplingParameters, WeightsRef
from ollamad.wire.messages import (
    Cancel,
    Chat,
    Delta,
    Done,
    Embed,
    Failed,
    Generate,
    LoadSpec,
    Pause,
    Submit,
    Tokenize,
    Up,
)

SPEC = LoadSpec("fake", (WeightsRef("sha256:any", 3),), ctx_len=256, slots=2, n_batch=64)
ENDLESS = Generate("abc", parameters=SamplingParameters(num_predict=-1))


class Office:
    """A desk over a fake model, and what it sent."""

    def __init__(self, store: Path, **options: object) -> None:
        (store / "blobs").mkdir()
        (store / "blobs" / "sha256-any").write_bytes(b"any")
        self.gates = Gates()
        backend = FakeBackend(FakeOptions(**({"end_every": 0} | options)), self.gates)  # type: ignore[arg-type]
        self.sent: Queue[Up] = Queue()
        self.loaded: Loaded = load(backend, SPEC, store, report=lambda _: None, on_fatal=self._fatal)
        self.desk = Desk(self.loaded, self.sent.put)

    def _fatal(self, error: BaseException) -> None:
        raise AssertionError(error)

    def receive(self, *kinds: type) -> Up:
        while True:
            message = self.sent.get(timeout=10)
            if isinstance(message, kinds):
                return message

    def close(self) -> None:
        self.desk.close()
        self.gates.open("decode")
        if self.loaded.engine is not None:
            self.loaded.engine.stop()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    made: list[Office] = []

    def make(**options: object) -> Office:
        made.append(Office(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_cancelled_request_has_one_end(office: Callable[..., Office]) -> None:
    """Failed with kind cancelled, and nothing after it, however often it is cancelled."""
    one = office()
    one.desk.submit(Submit("a", ENDLESS))
    one.receive(Delta)
    for _ in range(3):
        one.desk.cancel(Cancel("a"))
    end = one.receive(Done, Failed)
    assert isinstance(end, Failed)
    assert end.kind == "cancelled"
    one.desk.submit(Submit("b", Tokenize("x")))
    assert one.receive(Done, Failed) == Done("b", tokens=(256, 120), count=2)


def test_a_request_waiting_for_the_engine_can_be_cancelled(office: Callable[..., Office]) -> None:
    """Also one that has no slot yet."""
    one = office()
    for name in ("a", "b", "c"):
        one.desk.submit(Submit(name, ENDLESS))
    one.receive(Delta)
    one.desk.cancel(Cancel("c"))
    end = one.receive(Done, Failed)
    assert isinstance(end, Failed)
    assert (end.request_id, end.kind) == ("c", "cancelled")


def test_a_request_is_cancelled_while_its_prompt_is_made(office: Callable[..., Office]) -> None:
    """It never reaches the engine."""
    slow = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    one = office(chat_template=slow)
    one.desk.submit(Submit("a", Chat((Message("user", "x"),))))
    one.desk.cancel(Cancel("a"))
    end = one.receive(Done, Failed)
    assert isinstance(end, Failed)
    assert end.kind in ("cancelled", "template")
    assert one.desk.counters().step == 0


def test_a_pause_before_the_start_holds(office: Callable[..., Office]) -> None:
    """Paused while it was prepared, a request makes no token until it may."""
    one = office(end_every=5)
    one.gates.close("decode")
    one.desk.submit(Submit("held", Generate("abc")))
    one.desk.pause(Pause("held", True))
    one.gates.open("decode")
    one.desk.submit(Submit("free", Generate("abd")))
    end = one.receive(Done)
    assert isinstance(end, Done)
    assert end.request_id == "free"
    one.desk.pause(Pause("held", False))
    end = one.receive(Done)
    assert isinstance(end, Done)
    assert end.request_id == "held"


def test_an_embedding_can_be_cancelled(office: Callable[..., Office]) -> None:
    """In the second engine of a chat model as well."""
    one = office()
    one.gates.close("embed")
    one.desk.submit(Submit("first", Embed(("x",))))
    one.desk.submit(Submit("a", Embed(("y",))))
    one.desk.cancel(Cancel("a"))
    one.gates.open("embed")
    ends = {}
    for _ in range(2):
        end = one.receive(Done, Failed)
        assert isinstance(end, Done | Failed)
        ends[end.request_id] = end
    assert isinstance(ends["first"], Done)
    one.loaded.embedder.stop()


def test_two_running_requests_never_share_an_id(office: Callable[..., Office]) -> None:
    """That would be the daemon's mistake."""
    one = office()
    one.desk.submit(Submit("a", ENDLESS))
    one.receive(Delta)
    with pytest.raises(AssertionError):
        one.desk.submit(Submit("a", ENDLESS))
