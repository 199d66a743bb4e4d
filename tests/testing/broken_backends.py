"""Fakes that each break one rule of the backend contract; run by test_backend_contract.py, not collected by name.

``breaks`` names the one test that has to fail.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamad.plugin.backend import Backend, Batch, KVCacheFull, LoadProgress, ModelRejected, Sampler
from ollamad.testing.backend_contract import BackendContract, EmbedContract
from ollamad.testing.fake_backend import FakeBackend, FakeModel
from ollamad.testing.fake_context import FakeContext, FakeSampler
from ollamad.testing.fake_file import write_fake_model
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import Device, Memory
from ollamad.wire.messages import LoadSpec


class Fake(BackendContract):
    """The contract over a fake, parts of which a subclass replaces."""

    breaks = ""
    plugin_module = "ollamad.testing.fake_backend"
    options = FakeOptions()
    context_type: type[FakeContext] = FakeContext
    model_type: type[FakeModel] = FakeModel
    backend_type: type[FakeBackend] = FakeBackend

    @pytest.fixture
    def backend(self) -> Backend:
        backend = self.backend_type(self.options)
        load = backend.load

        def load_other(spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
            model = load(spec, files, progress)
            model.__class__ = self.model_type
            make = model.context

            def context(kind: Any, **arguments: Any) -> FakeContext:
                made = make(kind, **arguments)
                made.__class__ = self.context_type
                return made

            model.context = context  # type: ignore[method-assign]
            return model

        backend.load = load_other  # type: ignore[method-assign]
        return backend

    @pytest.fixture
    def model_file(self, tmp_path: Path) -> Path:
        return write_fake_model(tmp_path / "fake.gguf")


class TestWhole(Fake):
    """Breaks nothing."""


class TestNothingOptional(Fake):
    """Breaks nothing, and can do nothing that a context need not."""

    options = FakeOptions(can_cut=False, can_shift=False, can_share=False)


# --- the plugin and its devices


class TestNoisyImport(Fake):
    breaks = "test_importing_the_plugin_loads_no_native_library"
    native_modules = ("ollamad.testing.fake_context",)


class TestBadName(Fake):
    breaks = "test_the_name_is_a_config_key"

    class backend_type(FakeBackend):
        name = "my backend"


class TestMoreFreeThanTotal(Fake):
    breaks = "test_devices_are_possible"

    class backend_type(FakeBackend):
        def devices(self) -> Sequence[Device]:
            return [replace(device, free_bytes=device.total_bytes + 1) for device in super().devices()]


# --- loading


class TestProgressFalls(Fake):
    breaks = "test_progress_rises_within_0_and_1"

    class backend_type(FakeBackend):
        def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
            return super().load(spec, files, lambda fraction: progress(1 - fraction))


class TestDeafLoad(Fake):
    breaks = "test_a_load_can_be_given_up"

    class backend_type(FakeBackend):
        def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
            return super().load(spec, files, lambda fraction: progress(fraction) or True)


class TestWrongRejection(Fake):
    breaks = "test_an_unusable_file_is_rejected"

    class backend_type(FakeBackend):
        def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
            try:
                return super().load(spec, files, progress)
            except ModelRejected as error:
                raise ValueError("bad file") from error


class TestImpossibleDescription(Fake):
    breaks = "test_the_description_is_possible"

    class backend_type(FakeBackend):
        def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> FakeModel:
            model = super().load(spec, files, progress)
            model.description = replace(model.description, n_ctx_train=-1)
            return model


class TestDoubleFree(Fake):
    breaks = "test_closing_twice_is_harmless"

    class model_type(FakeModel):
        def close(self) -> None:
            assert not self.closed
            super().close()


class TestSecretMemory(Fake):
    breaks = "test_memory_is_reported"

    class context_type(FakeContext):
        def memory(self) -> tuple[Memory, ...]:
            return ()


# --- text


class TestLossyText(Fake):
    breaks = "test_text_survives_tokenizing"

    class model_type(FakeModel):
        def detokenize(self, tokens: Sequence[int], **how: bool) -> str:
            return super().detokenize(tokens, **how).lower()


class TestWholeCharacters(Fake):
    breaks = "test_pieces_join_to_the_text"

    class model_type(FakeModel):
        def piece(self, token: int, *, special: bool = False) -> bytes:
            return super().piece(token, special=special).decode(errors="replace").encode()

        def detokenize(self, tokens: Sequence[int], **how: bool) -> str:
            return bytes(token for token in tokens if token < 256).decode()


class TestForgottenBeginning(Fake):
    breaks = "test_the_beginning_is_marked_as_described"

    class model_type(FakeModel):
        def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            return super().tokenize(text, add_special=False, parse_special=parse_special)


class TestInjectedControl(Fake):
    breaks = "test_control_texts_are_read_only_when_asked"

    class model_type(FakeModel):
        def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            return super().tokenize(text, add_special=add_special, parse_special=True)


class TestLoudControl(Fake):
    breaks = "test_control_tokens_are_silent"

    class model_type(FakeModel):
        def piece(self, token: int, *, special: bool = False) -> bytes:
            return super().piece(token, special=True)


class TestEndless(Fake):
    breaks = "test_the_end_token_ends"

    class model_type(FakeModel):
        def is_end(self, token: int) -> bool:
            return token != EOS and super().is_end(token)


# --- decoding and sampling


class TestSmallContext(Fake):
    breaks = "test_a_context_holds_what_was_asked"
    options = FakeOptions(n_ctx=2 * 128 - 1)


class TestMoodyContexts(Fake):
    breaks = "test_contexts_of_a_model_agree"

    class context_type(FakeContext):
        moods: Iterator[int] = itertools.repeat(0)

        def decode(self, batch: Batch) -> None:
            if not self.steps:
                self._options = replace(self._options, seed=next(self.moods))
            super().decode(batch)

    @pytest.fixture(autouse=True)
    def moody(self, request: pytest.FixtureRequest) -> None:
        """Every other rule compares contexts too, so this fake is moody in one test alone."""
        only = request.function.__name__ == self.breaks
        self.context_type.moods = itertools.count() if only else itertools.repeat(0)


class TestOwnRandomNumbers(Fake):
    breaks = "test_the_seed_decides"

    class context_type(FakeContext):
        def sampler(self, parameters: Any, grammar: str | None = None) -> FakeSampler:
            return super().sampler(replace(parameters, seed=int.from_bytes(os.urandom(3), "little") + 1), grammar)


class TestBelievesGuesses(Fake):
    breaks = "test_guesses_are_verified"

    class context_type(FakeContext):
        def verify(self, checks: Sequence[tuple[Sampler, int, Sequence[int]]]) -> list[list[int]]:
            last = self.sample([(sampler, row + len(guesses)) for sampler, row, guesses in checks])
            return [[*guesses, token] for (_, _, guesses), token in zip(checks, last, strict=True)]


class TestMixedRows(Fake):
    breaks = "test_rows_belong_to_their_sequences"

    class context_type(FakeContext):
        def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
            rows = sorted(row for _, row in picks)
            return super().sample([(sampler, row) for (sampler, _), row in zip(picks, rows, strict=True)])


class TestLeak(Fake):
    breaks = "test_sequences_do_not_see_each_other"

    class context_type(FakeContext):
        def decode(self, batch: Batch) -> None:
            leaks = bool(self.cells[0]) and not self.cells[1] and 1 in batch.sequence_ids
            whole = self._options
            self._options = replace(whole, seed=self._digests[0][-1]) if leaks else whole
            super().decode(batch)
            self._options = whole


class TestDeafPenalties(Fake):
    breaks = "test_penalties_know_what_was_accepted"

    class context_type(FakeContext):
        def sampler(self, parameters: Any, grammar: str | None = None) -> FakeSampler:
            sampler = super().sampler(parameters, grammar)
            sampler.accept = lambda tokens: None  # type: ignore[method-assign]
            return sampler

        def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
            tokens = super().sample(picks)
            for (sampler, _), token in zip(picks, tokens, strict=True):
                FakeSampler.accept(sampler, (token,))  # type: ignore[arg-type]
            return tokens


class TestForgetfulSampling(Fake):
    breaks = "test_sampling_accepts_its_token"

    class context_type(FakeContext):
        def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
            tokens = super().sample(picks)
            for sampler, _ in picks:
                sampler.accepted.pop()  # type: ignore[attr-defined]
            return tokens


class TestThreadsMatter(Fake):
    breaks = "test_threads_may_change_between_steps"

    class context_type(FakeContext):
        def set_threads(self, decode: int, prefill: int) -> None:
            self._options = replace(self._options, seed=decode * 7)


# --- the cache


class TestLeakedCells(Fake):
    breaks = "test_a_removed_sequence_frees_its_cells"

    class context_type(FakeContext):
        def remove(self, sequence_id: int, start: int, end: int) -> bool:
            used = self.used
            done = super().remove(sequence_id, start, end)
            self.used = self.used if any(self.cells) else used
            return done


class TestHalfABatch(Fake):
    breaks = "test_a_full_cache_says_so_and_stays"

    class context_type(FakeContext):
        def decode(self, batch: Batch) -> None:
            fitting = self.n_ctx - self.used
            if 0 < fitting < len(batch):
                lists = (batch.tokens, batch.positions, batch.sequence_ids, batch.outputs)
                super().decode(Batch(*(rows[:fitting] for rows in lists)))
                raise KVCacheFull
            super().decode(batch)


class TestGhostOfTheTail(Fake):
    breaks = "test_a_cut_leaves_nothing_behind"

    class context_type(FakeContext):
        def remove(self, sequence_id: int, start: int, end: int) -> bool:
            last = self._digests[sequence_id][-1:]
            done = super().remove(sequence_id, start, end)
            if start > 0 and end == -1:
                self._digests[sequence_id][-1:] = last
            return done


class TestRefusedCut(Fake):
    breaks = "test_a_cut_leaves_nothing_behind"
    options = FakeOptions(can_shift=False)

    class context_type(FakeContext):
        def remove(self, sequence_id: int, start: int, end: int) -> bool:
            return start <= 0 and super().remove(sequence_id, start, end)


class TestShortCopy(Fake):
    breaks = "test_a_copied_beginning_goes_on_alike"

    class context_type(FakeContext):
        def copy(self, source: int, target: int, start: int, end: int) -> None:
            super().copy(source, target, start, end)
            self._digests[target][-1] = 0


class TestCostlyCopy(Fake):
    breaks = "test_a_copy_takes_no_cells"

    class context_type(FakeContext):
        def copy(self, source: int, target: int, start: int, end: int) -> None:
            super().copy(source, target, start, end)
            self.used += len(self.cells[target])


class TestNoShift(Fake):
    breaks = "test_a_shift_moves_positions"

    class context_type(FakeContext):
        def shift(self, sequence_id: int, start: int, end: int, delta: int) -> None:
            pass


# --- embedding


class _EmbedOnly(EmbedContract):
    breaks = ""
    context_type: type[FakeContext] = FakeContext
    options = FakeOptions(encoder=True)
    model_type = FakeModel
    backend_type = FakeBackend
    backend = Fake.backend
    model_file = Fake.model_file


class TestEncoder(_EmbedOnly):
    """Breaks nothing."""


class TestShortVectors(_EmbedOnly):
    breaks = "test_there_is_a_vector_for_each_input"

    class context_type(FakeContext):
        def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
            return [vector[1:] for vector in super().embed(sequences)]


class TestSwappedVectors(_EmbedOnly):
    breaks = "test_packing_changes_no_vector"

    class context_type(FakeContext):
        def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
            return super().embed(sequences)[::-1]
