"""A backend without native code, for tests: bytes are tokens, answers tell what the model saw.

Load it into a daemon with ``plugins.extra = ["ollamad.testing.fake_backend:plugin"]``. Any file is a model;
what it is like stands in its GGUF metadata or in the environment (`fake_options.FakeOptions`), and files
in ``FAKE_GATE_DIR`` hold, slow or break it from outside (`fake_gates`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ollamad import gguf
from ollamad.config.load import inherited_environment
from ollamad.errors import InvalidModelFile
from ollamad.plugin.backend import (
    Backend,
    BackendError,
    ContextKind,
    LoadProgress,
    Model,
    ModelDescription,
    ModelRejected,
)
from ollamad.plugin.hookspecs import hookimpl
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import BOS, EOS, IM_END, N_VOCAB, SPECIAL, FakeOptions
from ollamad.types import Device, Memory
from ollamad.wire.messages import LoadSpec

_TOKEN_OF = {text: token for token, text in SPECIAL.items()}
_SPECIAL_TEXT = re.compile("(" + "|".join(map(re.escape, _TOKEN_OF)) + ")")


class FakeModel(Model):
    """256 bytes and four control tokens."""

    def __init__(self, options: FakeOptions, gates: Gates, metadata: Mapping[str, str] | None = None) -> None:
        self.options = options
        self.gates = gates
        self.closed = False
        self.contexts: list[FakeContext] = []
        metadata = metadata or {}
        self.description = ModelDescription(
            architecture=metadata.get("general.architecture", "fake"),
            n_vocab=N_VOCAB,
            n_ctx_train=options.n_ctx_train,
            n_embd=options.n_embd,
            bos_token=BOS,
            eos_token=EOS,
            adds_bos=options.adds_bos,
            adds_eos=False,
            chat_template=options.chat_template or metadata.get("tokenizer.chat_template") or None,
            bos_text=SPECIAL[BOS],
            eos_text=SPECIAL[EOS],
            has_encoder=options.encoder,
            has_decoder=not options.encoder,
            metadata=metadata,
        )

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        tokens = [BOS] if add_special and self.options.adds_bos else []
        parts = _SPECIAL_TEXT.split(text) if parse_special else [text]
        for part in parts:
            if parse_special and part in _TOKEN_OF:
                tokens.append(_TOKEN_OF[part])
            else:
                tokens += part.encode()
        return tokens

    def piece(self, token: int, *, special: bool = False) -> bytes:
        if token in SPECIAL:
            return SPECIAL[token].encode() if special else b""
        return bytes((token,))

    def detokenize(self, tokens: Sequence[int], *, remove_special: bool = False, unparse_special: bool = True) -> str:
        tokens = list(tokens)
        if remove_special:
            tokens = tokens[tokens[:1] == [BOS] :]
            tokens = tokens[:-1] if tokens[-1:] == [EOS] else tokens
        return b"".join(self.piece(token, special=unparse_special) for token in tokens).decode(errors="replace")

    def is_end(self, token: int) -> bool:
        return token in (EOS, IM_END)

    def context(self, kind: ContextKind, *, ctx_len: int, slots: int, spec: LoadSpec) -> FakeContext:
        self.gates.enter("context")
        context = FakeContext(
            self.options,
            self.gates,
            n_ctx=self.options.n_ctx or ctx_len * slots,
            n_batch=self.options.n_batch or spec.n_batch,
            n_sequences=self.options.n_sequences or slots + 8,
        )
        self.contexts.append(context)
        return context

    def memory(self) -> tuple[Memory, ...]:
        return (Memory("fake0", "fake", self.options.weights_bytes, 0, 0),)

    def close(self) -> None:
        if not self.closed and not all(context.closed for context in self.contexts):
            raise BackendError("a model was closed before its contexts")
        self.closed = True


class FakeBackend(Backend):
    """Loads any file. Tests may give *options* and *gates*; a file's own options go before those."""

    name = "fake"

    def __init__(self, options: FakeOptions | None = None, gates: Gates | None = None) -> None:
        self._options = options
        self._gates = gates

    def devices(self) -> Sequence[Device]:
        options = self._own_options()
        self._own_gates(options).enter("probe")
        return (Device("fake0", "fake", "no device at all", options.memory_bytes, options.memory_bytes),)

    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
        metadata = _metadata(files[spec.weights[0].digest])
        options = self._own_options().with_values(metadata, "fake.")
        gates = self._own_gates(options)
        for step in range(5):
            if not progress(step / 4):
                raise BackendError("the load was given up")
            gates.enter("load" if step == 2 else "load-step")
            time.sleep(options.load_ms / 5000)
        return FakeModel(options, gates, {key: str(value) for key, value in metadata.items()})

    def _own_options(self) -> FakeOptions:
        return self._options or FakeOptions().with_values(inherited_environment(), "FAKE_")

    def _own_gates(self, options: FakeOptions) -> Gates:
        return self._gates or Gates(Path(options.gate_dir) if options.gate_dir else None)


def _metadata(path: Path) -> Mapping[str, object]:
    """The metadata of a GGUF; a file of any other kind has none."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            return {}
    try:
        return gguf.read_header(path).metadata
    except InvalidModelFile as error:
        raise ModelRejected(str(error)) from error


class FakePlugin:
    """The plugin object: what ``plugins.extra`` names."""

    @hookimpl
    def ollamad_register_backends(self, register: Callable[[Backend], None]) -> None:
        """Register the one fake backend."""
        register(FakeBackend())


plugin = FakePlugin()
