"""The binding keeps the backend contract with the demo model, and an encoder's with a tiny BERT."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest
from ollamad_llama import binding, native
from ollamad_llama.cpu import CpuBackend
from ollamad_llama.offload import Offload
from tiny_bert import write_tiny_bert

from ollamad.plugin import Backend, BackendError, Batch, Context, LoadSpec, Model, ModelRejected, SamplingParameters
from ollamad.testing.contracts import BackendContract, EmbedContract
from ollamad.types import WeightsRef

DEMO = Path(str(files("ollamad") / "_data" / "demo.gguf"))
REF = WeightsRef("sha256:demo", DEMO.stat().st_size)
SPEC = LoadSpec("llama-cpu", (REF,), ctx_len=256, slots=2, n_batch=64, threads=1, threads_batch=1)


class TestContract(BackendContract):
    plugin_module = "ollamad_llama.cpu"

    @pytest.fixture
    def backend(self) -> Backend:
        return CpuBackend()

    @pytest.fixture
    def model_file(self) -> Path:
        return DEMO


class TestEncoderContract(EmbedContract):
    plugin_module = "ollamad_llama.cpu"
    ctx_len = 64

    @pytest.fixture
    def backend(self) -> Backend:
        return CpuBackend()

    @pytest.fixture
    def model_file(self, tmp_path: Path) -> Path:
        return write_tiny_bert(tmp_path / "bert.gguf")


@pytest.fixture(scope="module")
def model() -> Model:
    return CpuBackend().load(SPEC, {REF.digest: DEMO}, lambda fraction: True)


@pytest.fixture
def context(model: Model) -> Context:
    return model.context("generate", ctx_len=256, slots=2, spec=SPEC)


def continue_with(model: Model, context: Context, text: str, parameters: SamplingParameters, count: int) -> list[int]:
    tokens = model.tokenize(text, add_special=True, parse_special=True)
    context.remove(0, 0, -1)
    sampler = context.sampler(parameters)
    sampler.accept(tokens)
    batch = Batch()
    for position, token in enumerate(tokens):
        row = batch.add(token, position, 0, position == len(tokens) - 1)
    made: list[int] = []
    while True:
        context.decode(batch)
        made += context.sample([(sampler, row)])
        if len(made) == count:
            sampler.close()
            return made
        batch = Batch()
        row = batch.add(made[-1], len(tokens) + len(made) - 1, 0, True)


def test_the_low_level_module_comes_without_its_package() -> None:
    """Importing the binding leaves the heavy package unimported, and free to be imported by others."""
    assert "llama_cpp.llama" not in sys.modules
    assert native.c.__name__ == "llama_cpp.llama_cpp"


def test_a_prompt_is_tokenized_as_recorded(model: Model) -> None:
    """The tokens of a recorded prompt come out, and its special tokens are one token each."""
    text = "<|im_start|>user\nPing<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    tokens = model.tokenize(text, add_special=True, parse_special=True)
    assert tokens == [2035, 280, 198, 47, 448, 2036, 198, 2035, 282, 198, 2040, 256, 2041, 256]
    assert model.detokenize(tokens) == text
    assert model.piece(2035) == b""
    assert model.piece(2035, special=True) == b"<|im_start|>"


def test_a_number_outside_the_vocabulary_is_refused(model: Model) -> None:
    """No number that a client sends reaches the native code unchecked."""
    for token in (-1, 2048, 99_999_999):
        with pytest.raises(ValueError, match="not in the vocabulary of 2048"):
            model.piece(token)
        with pytest.raises(ValueError, match="not in the vocabulary of 2048"):
            model.detokenize([token])


def test_the_description_tells_the_file(model: Model) -> None:
    """Architecture, trained context, template and end tokens come from the file."""
    facts = model.description
    assert (facts.architecture, facts.n_ctx_train, facts.n_vocab, facts.n_embd) == ("qwen3", 2048, 2048, 256)
    assert (facts.bos_text, facts.eos_text, facts.adds_bos) == ("<|endoftext|>", "<|im_end|>", False)
    assert facts.chat_template is not None
    assert "add_generation_prompt" in facts.chat_template
    assert model.is_end(2036)
    assert not model.is_end(47)


def test_memory_is_what_the_log_says(model: Model, context: Context) -> None:
    """Weights are the file's tensors; two slots of 256 tokens take 2 x 256 cells of the KV cache."""
    (weights,) = model.memory()
    (used,) = context.memory()
    assert weights.device_id == used.device_id == "CPU"
    assert 4_000_000 < weights.weights_bytes < DEMO.stat().st_size
    assert used.kv_bytes == 512 * 6 * 2 * 128 * 2
    assert used.compute_bytes > 0


def test_greedy_equals_temperature_zero(model: Model, context: Context) -> None:
    """Temperature 0, a negative one, and the single best token are the same choice."""
    text = "<|im_start|>user\nPing<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    expected = [79, 495, 2036]
    for parameters in (
        SamplingParameters(temperature=0),
        SamplingParameters(temperature=-1),
        SamplingParameters(temperature=1, top_k=1),
        SamplingParameters(temperature=1, top_p=0),
        SamplingParameters(temperature=1, min_p=1),
        SamplingParameters(temperature=0, typical_p=0),
    ):
        assert continue_with(model, context, text, parameters, 3) == expected


def test_a_seed_repeats_and_others_differ(model: Model, context: Context) -> None:
    """The same seed gives the same tokens at a high temperature, another seed others."""
    draws = [
        continue_with(model, context, "Tell me", SamplingParameters(temperature=2, top_k=0, top_p=1, seed=seed), 12)
        for seed in (7, 7, 8)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_penalty_looks_at_the_prompt(model: Model, context: Context) -> None:
    """Tokens of the prompt are penalised before the first token is chosen."""
    text = "<|im_start|>assistant\n1, 2, 3,"
    free = continue_with(model, context, text, SamplingParameters(temperature=0), 2)
    stern = continue_with(model, context, text, SamplingParameters(temperature=0, presence_penalty=100), 2)
    assert free != stern


def test_a_grammar_holds(model: Model, context: Context) -> None:
    """Only what the grammar allows is chosen; one that cannot be parsed is the request's fault."""
    sampler = context.sampler(SamplingParameters(temperature=0), 'root ::= "no"')
    batch = Batch()
    row = batch.add(47, 0, 1, True)
    context.remove(1, 0, -1)
    context.decode(batch)
    (token,) = context.sample([(sampler, row)])
    assert b"no".startswith(model.piece(token))
    sampler.close()
    with pytest.raises(ValueError, match="refused"):
        context.sampler(SamplingParameters(), "root ::= missing")


def test_a_file_that_is_cut_off_is_refused_without_its_path(tmp_path: Path) -> None:
    """The reason is llama.cpp's, the path is not told."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(DEMO.read_bytes()[:100_000])
    with pytest.raises(ModelRejected, match="not within the file bounds") as caught:
        CpuBackend().load(SPEC, {REF.digest: cut}, lambda fraction: True)
    assert str(tmp_path) not in str(caught.value)


def test_what_this_version_lacks_is_refused() -> None:
    """An adapter is not silently left out."""
    with pytest.raises(ModelRejected, match="not available in this version"):
        binding.load(LoadSpec("llama-cpu", (REF,), adapters=(REF,)), {REF.digest: DEMO}, bool, Offload())


def test_a_device_that_is_not_there_is_refused() -> None:
    """A placement on a missing device fails by name."""
    with pytest.raises(ModelRejected, match="no device 'CUDA9' here"):
        binding.load(SPEC, {REF.digest: DEMO}, lambda fraction: True, Offload(-1, ("CUDA9",)))


def test_an_unknown_cache_type_is_refused(model: Model) -> None:
    """Only types that llama.cpp knows are asked of it."""
    with pytest.raises(ModelRejected, match="q9_9"):
        model.context("generate", ctx_len=64, slots=1, spec=LoadSpec("llama-cpu", (REF,), kv_type="q9_9"))


def test_an_encoder_generates_nothing(tmp_path: Path) -> None:
    """A context to generate with is refused for a model without memory, and the wrong method for the wrong kind."""
    path = write_tiny_bert(tmp_path / "bert.gguf")
    ref = WeightsRef("sha256:bert", path.stat().st_size)
    spec = LoadSpec("llama-cpu", (ref,), ctx_len=64, n_batch=64, threads=1, embedding=True)
    model = CpuBackend().load(spec, {ref.digest: path}, lambda fraction: True)
    with pytest.raises(ModelRejected, match="does not generate"):
        model.context("generate", ctx_len=64, slots=1, spec=spec)
    context = model.context("embed", ctx_len=64, slots=1, spec=spec)
    with pytest.raises(BackendError, match="does not decode"):
        context.decode(Batch())
    context.close()
    model.close()


def test_a_chat_model_embeds_by_the_mean(model: Model) -> None:
    """Equal inputs have equal vectors whatever stands beside them, and n_embd numbers."""
    context = model.context("embed", ctx_len=64, slots=1, spec=SPEC)
    one, other = (model.tokenize(text, add_special=True, parse_special=True) for text in ("Hello", "A story"))
    together = context.embed([one, other, one])
    alone = context.embed([one])
    assert len(alone[0]) == 256
    assert together[0] == pytest.approx(alone[0], abs=1e-3)
    assert together[2] == pytest.approx(alone[0], abs=1e-3)
    assert together[1] != pytest.approx(alone[0], abs=1e-2)
    context.close()


def test_only_the_vocabulary_can_be_loaded() -> None:
    """vocab_only takes no weights and still tokenizes."""
    spec = LoadSpec("llama-cpu", (REF,), vocab_only=True)
    model = CpuBackend().load(spec, {REF.digest: DEMO}, lambda fraction: True)
    assert model.tokenize("Ping", add_special=True, parse_special=True) == [47, 448]
    assert model.memory() == ()
    model.close()
