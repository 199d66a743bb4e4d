"""What every `Backend` promises, as tests: subclass, give the fixtures, and pytest runs them.

```python
class TestMine(BackendContract):
    plugin_module = "my_backend"

    @pytest.fixture
    def backend(self) -> Backend:
        return MyBackend()

    @pytest.fixture
    def model_file(self) -> Path:
        return Path("small.gguf")
```

Each test is one rule; what a context does not declare (``can_cut``, ``can_share_prefix``, ``can_shift``) is not asked
of it. A small model is enough, but it must answer the same prompt the same way twice.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ollamad.plugin.backend import (
    Backend,
    BackendError,
    Batch,
    Context,
    ContextKind,
    KVCacheFull,
    Model,
    ModelRejected,
    Sampler,
)
from ollamad.types import SamplingParameters, WeightsRef
from ollamad.wire.messages import LoadSpec

GREEDY = SamplingParameters(temperature=0.0)
STERN = SamplingParameters(temperature=0.0, frequency_penalty=1000.0)  # says no token twice

DIGEST = "sha256:" + "0" * 64

#: Makes a context of the model; closed after the test.
MakeContext = Callable[[], Context]


class LoadedContract:
    """The fixtures of a loaded model, shared by the contracts below. Give fixtures of a wider scope as you like."""

    ctx_len = 128
    slots = 2
    n_batch = 64
    kind: ContextKind = "generate"

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test."""
        raise NotImplementedError("give a fixture `backend`")

    @pytest.fixture
    def model_file(self) -> Path:
        """A small model that the backend can load."""
        raise NotImplementedError("give a fixture `model_file`")

    @pytest.fixture
    def spec(self, backend: Backend, model_file: Path) -> LoadSpec:
        """How the model is loaded."""
        return LoadSpec(
            backend=backend.name,
            weights=(WeightsRef(DIGEST, model_file.stat().st_size),),
            ctx_len=self.ctx_len,
            slots=self.slots,
            n_batch=self.n_batch,
            threads=1,
            threads_batch=1,
            embedding=self.kind == "embed",
        )

    @pytest.fixture
    def files(self, model_file: Path) -> Mapping[str, Path]:
        """Where the digests of *spec* lie."""
        return {DIGEST: model_file}

    @pytest.fixture
    def model(self, backend: Backend, spec: LoadSpec, files: Mapping[str, Path]) -> Iterator[Model]:
        """The loaded model."""
        model = backend.load(spec, files, lambda fraction: True)
        yield model
        model.close()

    @pytest.fixture
    def make_context(self, model: Model, spec: LoadSpec) -> Iterator[MakeContext]:
        """Makes contexts of the model."""
        made: list[Context] = []

        def make() -> Context:
            made.append(model.context(self.kind, ctx_len=self.ctx_len, slots=self.slots, spec=spec))
            return made[-1]

        yield make
        for context in made:
            context.close()

    @pytest.fixture
    def context(self, make_context: MakeContext) -> Context:
        """One context."""
        return make_context()


class BackendContract(LoadedContract):
    """The rules for a backend that generates."""

    #: The module that the plugin's entry point names.
    plugin_module = ""
    #: What must not be imported before `Backend.devices` or `Backend.load`.
    native_modules: tuple[str, ...] = ("llama_cpp", "numpy", "torch", "jax", "mlx")
    #: False for a backend whose tokens are given and not chosen: there is nothing that a penalty could change.
    samples = True
    #: Texts that the vocabulary can write.
    texts: tuple[str, ...] = ("Who are you?", "one, two; three\nfour", "Grüße, 世界 🙂")

    @pytest.fixture
    def unusable_file(self, tmp_path: Path) -> Path:
        """A file that no backend can load, but that looks like a model."""
        path = tmp_path / "unusable.gguf"
        path.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
        return path

    @pytest.fixture
    def prompt(self, model: Model) -> list[int]:
        """A prompt of 24 tokens."""
        return self.tokens(model, self.texts[0], 24)

    @staticmethod
    def tokens(model: Model, text: str, count: int) -> list[int]:
        """*text*, repeated to exactly *count* tokens."""
        tokens = model.tokenize(text, add_special=False, parse_special=False)
        return (tokens * count)[:count]

    # --- the plugin and its devices

    def test_importing_the_plugin_loads_no_native_library(self) -> None:
        """Importing the plugin is cheap: the daemon does it only to learn a name."""
        assert self.plugin_module, "say which module the entry point names"
        assert not _imports(self.plugin_module, self.native_modules)

    def test_the_name_is_a_config_key(self, backend: Backend) -> None:
        """The name can be written in the configuration without quotes."""
        assert re.fullmatch(r"[A-Za-z0-9_-]+", backend.name)

    def test_devices_are_possible(self, backend: Backend) -> None:
        """Devices have ids of their own, a kind, and no more free memory than there is."""
        devices = backend.devices()
        assert len({device.id for device in devices}) == len(devices)
        for device in devices:
            assert device.id
            assert device.kind
            assert 0 <= device.free_bytes <= device.total_bytes

    # --- loading

    def test_progress_rises_within_0_and_1(self, backend: Backend, spec: LoadSpec, files: Mapping[str, Path]) -> None:
        """Progress is a fraction that never falls."""
        seen: list[float] = []

        def note(fraction: float) -> bool:
            seen.append(fraction)
            return True

        backend.load(spec, files, note).close()
        assert seen == sorted(seen)
        assert all(0 <= fraction <= 1 for fraction in seen)

    def test_a_load_can_be_given_up(self, backend: Backend, spec: LoadSpec, files: Mapping[str, Path]) -> None:
        """When progress answers False, the load ends with a `BackendError`."""
        with pytest.raises(BackendError):
            backend.load(spec, files, lambda fraction: False)

    def test_an_unusable_file_is_rejected(self, backend: Backend, spec: LoadSpec, unusable_file: Path) -> None:
        """A file that cannot be loaded is `ModelRejected`, so that nobody tries again."""
        with pytest.raises(ModelRejected):
            backend.load(spec, {DIGEST: unusable_file}, lambda fraction: True)

    def test_the_description_is_possible(self, model: Model) -> None:
        """Sizes are positive, and special tokens are in the vocabulary or -1."""
        described = model.description
        assert described.n_vocab > 0
        assert described.n_embd > 0
        assert described.n_ctx_train >= 0
        assert -1 <= described.bos_token < described.n_vocab
        assert -1 <= described.eos_token < described.n_vocab

    def test_closing_twice_is_harmless(self, backend: Backend, spec: LoadSpec, files: Mapping[str, Path]) -> None:
        """Sampler, context and model may be closed again."""
        model = backend.load(spec, files, lambda fraction: True)
        context = model.context(self.kind, ctx_len=self.ctx_len, slots=self.slots, spec=spec)
        for closes in (context.sampler(GREEDY).close, context.close, model.close):
            closes()
            closes()

    def test_memory_is_reported(self, model: Model, context: Context) -> None:
        """The model counts its weights, the context its cache, and neither the other's."""
        assert sum(memory.weights_bytes for memory in model.memory()) > 0
        assert sum(memory.kv_bytes for memory in context.memory()) > 0
        assert sum(memory.weights_bytes for memory in context.memory()) == 0

    # --- text

    def test_text_survives_tokenizing(self, model: Model) -> None:
        """Tokens of a text give the text again."""
        for text in self.texts:
            assert model.detokenize(model.tokenize(text, add_special=False, parse_special=False)) == text

    def test_pieces_join_to_the_text(self, model: Model) -> None:
        """The bytes of the tokens, put together, are the text, even where a token is half a character."""
        for text in self.texts:
            tokens = model.tokenize(text, add_special=False, parse_special=False)
            joined = b"".join(model.piece(token) for token in tokens)
            assert joined.removeprefix(b" ") == text.encode()

    def test_the_beginning_is_marked_as_described(self, model: Model) -> None:
        """A prompt begins with BOS exactly if the description says so."""
        tokens = model.tokenize(self.texts[0], add_special=True, parse_special=False)
        assert (tokens[0] == model.description.bos_token) == model.description.adds_bos

    def test_control_texts_are_read_only_when_asked(self, model: Model) -> None:
        """A control token's text in a user's prompt is plain text unless parsing was asked for."""
        described = model.description
        for token, text in ((described.bos_token, described.bos_text), (described.eos_token, described.eos_text)):
            if text:
                assert token in model.tokenize(f"a{text}", add_special=False, parse_special=True)
                assert token not in model.tokenize(f"a{text}", add_special=False, parse_special=False)

    def test_control_tokens_are_silent(self, model: Model) -> None:
        """A control token has no bytes unless they are asked for."""
        token = model.description.eos_token
        if token >= 0:
            assert model.piece(token) == b""
            assert model.piece(token, special=True)

    def test_the_end_token_ends(self, model: Model) -> None:
        """EOS ends a generation, and the tokens of a text do not."""
        if model.description.eos_token >= 0:
            assert model.is_end(model.description.eos_token)
        tokens = model.tokenize(self.texts[0], add_special=False, parse_special=False)
        assert not any(map(model.is_end, tokens))

    # --- decoding and sampling

    def test_a_context_holds_what_was_asked(self, context: Context) -> None:
        """There are cells for every slot's whole context, and a sequence id for each slot."""
        assert context.n_ctx >= self.ctx_len * self.slots
        assert context.n_sequences >= self.slots
        assert context.n_batch >= 1

    def test_contexts_of_a_model_agree(self, make_context: MakeContext, prompt: list[int]) -> None:
        """The same prompt, greedily continued in two contexts, gives the same tokens."""
        assert answer(make_context(), prompt) == answer(make_context(), prompt)

    def test_the_seed_decides(self, context: Context, prompt: list[int]) -> None:
        """The same seed gives the same tokens, also at a high temperature."""
        parameters = SamplingParameters(temperature=1.5, seed=42, top_k=0, top_p=1.0)
        first = answer(context, prompt, parameters=parameters)
        assert first == answer(context, prompt, parameters=parameters)

    def test_rows_belong_to_their_sequences(self, make_context: MakeContext, model: Model) -> None:
        """Logits are found by the row that was asked for, in whatever order they are sampled."""
        prompts = [self.tokens(model, text, 9) for text in self.texts[:2]]
        alone = [answer(make_context(), prompt, 1) for prompt in prompts]
        context, batch = make_context(), Batch()
        rows = [feed_into(batch, prompt, sequence_id) for sequence_id, prompt in enumerate(prompts)]
        context.decode(batch)
        picks = [(context.sampler(GREEDY), row) for row in reversed(rows)]
        assert context.sample(picks) == [token for (token,) in reversed(alone)]

    def test_sequences_do_not_see_each_other(self, make_context: MakeContext, model: Model) -> None:
        """A sequence answers as it does alone while another one is in the cache."""
        first, second = (self.tokens(model, text, 20) for text in self.texts[:2])
        expected = answer(make_context(), second)
        context = make_context()
        feed(context, first, 0)
        assert answer(context, second, sequence_id=1) == expected

    def test_penalties_know_what_was_accepted(self, context: Context, prompt: list[int]) -> None:
        """A token that the sampler was told of is punished."""
        if not self.samples:
            return
        row = feed(context, prompt, 0)
        (favourite,) = context.sample([(context.sampler(GREEDY), row)])
        sampler = context.sampler(STERN)
        sampler.accept([favourite])
        assert context.sample([(sampler, row)]) != [favourite]

    def test_sampling_accepts_its_token(self, context: Context, prompt: list[int]) -> None:
        """A sampler remembers the token that it chose."""
        if not self.samples:
            return
        row = feed(context, prompt, 0)
        sampler = context.sampler(STERN)
        assert context.sample([(sampler, row)]) != context.sample([(sampler, row)])

    def test_guesses_are_verified(self, make_context: MakeContext, prompt: list[int]) -> None:
        """Of guessed tokens in one step, those are taken that would have been chosen, and the next one."""
        alone = answer(make_context(), prompt, 5)
        wrong = next(token for token in prompt if token != alone[3])
        context = make_context()
        most = min(context.n_outputs, context.n_batch) - 1
        guesses = [*alone[1:3], wrong][:most]
        (first,) = context.sample([(context.sampler(GREEDY), feed(context, prompt, 0))])
        batch = Batch()
        for offset, token in enumerate((first, *guesses)):
            batch.add(token, len(prompt) + offset, 0, True)
        context.decode(batch)
        expected = alone[1 : min(most, 2) + 2]
        assert context.verify([(context.sampler(GREEDY), 0, guesses)]) == [expected]

    def test_threads_may_change_between_steps(self, make_context: MakeContext, prompt: list[int]) -> None:
        """Another number of threads changes no token."""
        context = make_context()
        context.set_threads(2, 1)
        expected = answer(make_context(), prompt)
        assert answer(context, prompt) == expected
        context.set_threads(1, 2)
        context.remove(0, 0, -1)
        assert answer(context, prompt) == expected

    # --- the cache

    def test_a_removed_sequence_frees_its_cells(self, context: Context, prompt: list[int]) -> None:
        """Whole sequences can always be removed, and as often as the cache is filled."""
        for _ in range(2):
            fill(context, prompt, context.n_ctx)
            assert all(context.remove(sequence_id, 0, -1) for sequence_id in range(context.n_sequences))

    def test_a_full_cache_says_so_and_stays(self, make_context: MakeContext, prompt: list[int]) -> None:
        """A batch without enough cells is `KVCacheFull`, and then nothing of it is in the cache."""
        context = make_context()
        length = fill(context, prompt, context.n_ctx - 1)
        last = context.n_sequences - 1
        batch = Batch()
        feed_into(batch, prompt[:2], last, length)
        with pytest.raises(KVCacheFull):
            context.decode(batch)
        context.remove(0, 0, -1)
        held = (prompt * length)[:length]
        row = feed(context, prompt[:2], last, length)
        (token,) = context.sample([(context.sampler(GREEDY), row)])
        assert [token] == answer(make_context(), held + prompt[:2], 1)

    def test_a_cut_leaves_nothing_behind(self, make_context: MakeContext, prompt: list[int]) -> None:
        """After a cut, a sequence goes on as if the tail had never been; a refused cut changes nothing."""
        context = make_context()
        feed(context, prompt, 0)
        done = context.remove(0, 10, -1)
        assert done or not context.can_cut
        start = 10 if done else len(prompt)
        tail = prompt[5:12]
        expected = answer(make_context(), prompt[:start] + tail)
        assert go_on(context, feed(context, tail, 0, start), 0, start + len(tail)) == expected

    def test_a_copied_beginning_goes_on_alike(self, make_context: MakeContext, prompt: list[int]) -> None:
        """A sequence continues a shared beginning as its own, also when the source has gone."""
        context = make_context()
        if context.can_share_prefix:
            tail = prompt[3:9]
            expected = answer(make_context(), prompt[:16] + tail)
            feed(context, prompt, 0)
            context.copy(0, 1, 0, 16)
            context.remove(0, 0, -1)
            assert go_on(context, feed(context, tail, 1, 16), 1, 16 + len(tail)) == expected

    def test_a_copy_takes_no_cells(self, context: Context, prompt: list[int]) -> None:
        """Sharing a beginning leaves as many cells free as before."""
        if context.can_share_prefix:
            feed(context, prompt, 0)
            context.copy(0, 1, 0, len(prompt))
            feed(context, (prompt * context.n_ctx)[: context.n_ctx - len(prompt)], 0, len(prompt))

    def test_a_shift_moves_positions(self, context: Context, prompt: list[int]) -> None:
        """After a gap was closed, a sequence goes on at its new end."""
        if context.can_shift:
            feed(context, prompt, 0)
            assert context.remove(0, 4, 12)
            context.shift(0, 12, len(prompt), -8)
            row = feed(context, prompt[:3], 0, len(prompt) - 8)
            assert context.sample([(context.sampler(GREEDY), row)])


class EmbedContract(LoadedContract):
    """The rules for a backend that embeds; ``model_file`` is an embedding model."""

    kind: ContextKind = "embed"
    texts: tuple[str, ...] = ("A cat sits.", "The stock market fell today.", "Katzen schlafen viel.")
    #: How far a number may differ between packings: kernels differ with the shape of a batch.
    tolerance = 0.02

    @pytest.fixture
    def inputs(self, model: Model) -> list[list[int]]:
        """Three inputs that fit one step."""
        return [model.tokenize(text, add_special=True, parse_special=False)[:16] for text in self.texts]

    def test_there_is_a_vector_for_each_input(self, model: Model, context: Context, inputs: list[list[int]]) -> None:
        """Each vector has the numbers that the description says."""
        count = min(len(inputs), context.n_sequences)
        vectors = context.embed(inputs[:count])
        assert [len(vector) for vector in vectors] == [model.description.n_embd] * count

    def test_packing_changes_no_vector(self, context: Context, inputs: list[list[int]]) -> None:
        """An input's vector is its own, whatever else is in the step."""
        inputs = inputs[: context.n_sequences]
        alone = [context.embed([tokens])[0] for tokens in inputs]
        for together, vector in zip(context.embed(inputs), alone, strict=True):
            size = max(map(abs, vector))
            assert together == pytest.approx(vector, abs=self.tolerance * size)


# --- steps, as the engine makes them


def feed_into(batch: Batch, tokens: Sequence[int], sequence_id: int, start: int = 0) -> int:
    """Add *tokens* to a batch, the last one with logits; returns its row."""
    row = -1
    for offset, token in enumerate(tokens):
        row = batch.add(token, start + offset, sequence_id, offset == len(tokens) - 1)
    return row


def feed(context: Context, tokens: Sequence[int], sequence_id: int, start: int = 0) -> int:
    """Decode *tokens* at position *start*, in as many steps as it takes; returns the last row."""
    row = -1
    for first in range(0, len(tokens), context.n_batch):
        batch = Batch()
        row = feed_into(batch, tokens[first : first + context.n_batch], sequence_id, start + first)
        context.decode(batch)
    return row


def fill(context: Context, tokens: Sequence[int], cells: int) -> int:
    """Fill *cells* cells, evenly over all sequences; returns the length of the last one."""
    each, rest = divmod(context.n_ctx, context.n_sequences)
    for sequence_id in range(context.n_sequences - 1):
        feed(context, (list(tokens) * each)[:each], sequence_id)
    last = each + rest - (context.n_ctx - cells)
    feed(context, (list(tokens) * last)[:last], context.n_sequences - 1)
    return last


def go_on(
    context: Context, row: int, sequence_id: int, position: int, count: int = 8, sampler: Sampler | None = None
) -> list[int]:
    """Generate *count* tokens after the logits in *row*."""
    sampler = sampler or context.sampler(GREEDY)
    tokens = context.sample([(sampler, row)])
    while len(tokens) < count:
        row = feed(context, tokens[-1:], sequence_id, position)
        position += 1
        tokens += context.sample([(sampler, row)])
    return tokens


def answer(
    context: Context,
    prompt: Sequence[int],
    count: int = 8,
    *,
    parameters: SamplingParameters = GREEDY,
    sequence_id: int = 0,
) -> list[int]:
    """The tokens that continue *prompt* in an empty sequence, which is left empty again."""
    row = feed(context, prompt, sequence_id)
    tokens = go_on(context, row, sequence_id, len(prompt), count, context.sampler(parameters))
    assert context.remove(sequence_id, 0, -1), "a whole sequence can always be removed"
    return tokens


@functools.cache
def _imports(module: str, wanted: tuple[str, ...]) -> list[str]:
    """Which of *wanted* are imported by *module*, in a fresh interpreter."""
    script = (
        f"import sys; sys.path[:] = {sys.path!r}; import {module}; print(*(m for m in {wanted!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()
