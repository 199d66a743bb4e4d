"""Models and contexts over llama.cpp's C API.

Imported inside `devices` and `load` only, so in probe jobs and runners, never in the daemon.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ollamad.plugin import (
    BackendError,
    BackendOutOfMemory,
    Batch,
    Context,
    ContextKind,
    Device,
    KVCacheFull,
    LoadProgress,
    LoadSpec,
    Memory,
    Model,
    ModelDescription,
    ModelRejected,
    Sampler,
    SamplingParameters,
)
from ollamad_llama.native import c as _c
from ollamad_llama.native import log as _log
from ollamad_llama.native_log import kind_of, memory_of, says_out_of_memory, without_paths
from ollamad_llama.offload import Offload
from ollamad_llama.samplers import LlamaSampler, Picker

#: llama.cpp pads the cells of a context to this; asking for a multiple makes what we count what there is.
_CELLS_MULTIPLE = 256
#: LLAMA_MAX_SEQ: most sequence ids of one context.
_MAX_SEQUENCES = 256
_SPARE_ROWS_BYTES = 32 * 1024 * 1024
_KV_TYPES = {"": 1, "f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2, "iq4_nl": 20}
_FLASH_ATTENTION = {None: -1, False: 0, True: 1}
_LOAD_MODE_AUTO, _LOAD_MODE_NONE, _LOAD_MODE_MMAP = -1, 0, 1
_SPLIT_NONE, _SPLIT_LAYER = 0, 1
_POOLING_NONE, _POOLING_MEAN = 0, 1
_DEVICE_CPU, _DEVICE_GPU, _DEVICE_INTEGRATED = 0, 1, 2
#: llama_decode: no cells for the batch.
_NO_CELLS = 1


def _ggml(function: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml's device API; `llama_cpp` does not bind these."""
    bound = getattr(_c._lib, function)  # symbols of the libraries that libllama needs are found through it
    bound.restype, bound.argtypes = result, list(arguments)
    return bound


_dev_count = _ggml("ggml_backend_dev_count", ctypes.c_size_t)
_dev_get = _ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
_dev_by_name = _ggml("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
_dev_name = _ggml("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
_dev_description = _ggml("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
_dev_type = _ggml("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
_dev_registry = _ggml("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
_registry_name = _ggml("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
_dev_memory = _ggml(
    "ggml_backend_dev_memory",
    None,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_size_t),
)


def devices(registry: str) -> list[Device]:
    """List the devices of one part of ggml (``CPU``, ``CUDA``, ``MTL``); accelerators of the CPU are left out."""
    found = []
    for index in range(_dev_count()):
        handle = _dev_get(index)
        kind = _dev_type(handle)
        if _registry_name(_dev_registry(handle)).decode() != registry:
            continue
        if kind not in (_DEVICE_CPU, _DEVICE_GPU, _DEVICE_INTEGRATED):
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        name = _dev_name(handle).decode()
        found.append(
            Device(
                id=name,
                kind=kind_of(name),
                description=_dev_description(handle).decode("utf-8", "replace"),
                total_bytes=total.value,
                free_bytes=free.value,
                integrated=kind == _DEVICE_INTEGRATED,
            )
        )
    return found


def load(spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress, offload: Offload) -> Model:
    """Load weights; see `Backend.load`.

    Raises:
        ModelRejected, BackendOutOfMemory: With llama.cpp's own words, without paths.
    """
    if spec.adapters or spec.projectors or spec.draft:
        raise ModelRejected("adapters, projectors and draft models are not available in this version of ollamad")
    paths = [str(files[one.digest]) for one in spec.weights]
    _log.take_words()
    _log.buffers.clear()
    parameters, kept_alive = _model_parameters(spec, offload, progress)
    names = (ctypes.c_char_p * len(paths))(*(os.fsencode(path) for path in paths))
    if len(paths) == 1:
        handle = _c.llama_model_load_from_file(names[0], parameters)
    else:
        handle = _c.llama_model_load_from_splits(names, len(paths), parameters)
    del kept_alive
    if not handle:
        raise _failure("the model could not be loaded", paths)
    try:
        return _LlamaModel(handle, dict(_log.buffers), sum(one.size_bytes for one in spec.weights), spec)
    except BaseException:
        _c.llama_model_free(handle)
        raise


def _model_parameters(spec: LoadSpec, offload: Offload, progress: LoadProgress) -> tuple[Any, list[Any]]:
    """llama_model_params, and what must outlive the call that uses them."""
    parameters = _c.llama_model_default_params()
    handles = [_dev_by_name(name.encode()) for name in offload.devices]
    if None in handles:
        raise ModelRejected(f"no device {offload.devices[handles.index(None)]!r} here")
    listed = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)  # empty list: nothing leaves the CPU
    parameters.devices = ctypes.cast(listed, ctypes.c_void_p)
    parameters.n_gpu_layers = offload.gpu_layers
    parameters.split_mode = _SPLIT_LAYER if offload.main_gpu is None else _SPLIT_NONE
    parameters.main_gpu = offload.main_gpu or 0
    # tensor_split is read for as many devices as the library could ever have.
    shares = (ctypes.c_float * max(_c.llama_max_devices(), len(offload.split), 1))(*offload.split)
    if offload.split:
        parameters.tensor_split = shares
    modes = {None: _LOAD_MODE_AUTO, False: _LOAD_MODE_NONE, True: _LOAD_MODE_MMAP}
    parameters.load_mode = modes[spec.use_mmap]
    parameters.vocab_only = spec.vocab_only

    def on_progress(fraction: float, _user: object) -> bool:
        return bool(progress(fraction))

    callback = _c.llama_progress_callback(on_progress)
    parameters.progress_callback = callback
    return parameters, [listed, shares, callback]


def _failure(what: str, paths: Sequence[str] = ()) -> BackendError:
    words = without_paths(_log.take_words(), paths)
    text = f"{what}: {words}" if words else what
    return BackendOutOfMemory(text) if says_out_of_memory(words) else ModelRejected(text)


class _LlamaModel(Model):
    def __init__(
        self, handle: Any, buffers: dict[tuple[str, str, str], float], file_bytes: int, spec: LoadSpec
    ) -> None:
        self._handle = handle
        self._buffers = buffers
        self._file_bytes = file_bytes
        self._vocab = _c.llama_model_get_vocab(handle)
        self._n_vocab = int(_c.llama_vocab_n_tokens(self._vocab))
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._ends: dict[int, bool] = {}
        self.description = self._describe()

    def _describe(self) -> ModelDescription:
        handle, vocab = self._handle, self._vocab
        bos, eos = int(_c.llama_vocab_bos(vocab)), int(_c.llama_vocab_eos(vocab))
        template = _c.llama_model_chat_template(handle, None)
        metadata = self._metadata()
        return ModelDescription(
            architecture=metadata.get("general.architecture", "unknown"),
            n_vocab=self._n_vocab,
            n_ctx_train=max(int(_c.llama_model_n_ctx_train(handle)), 0),
            n_embd=int(_c.llama_model_n_embd_out(handle)),
            bos_token=bos,
            eos_token=eos,
            adds_bos=bool(_c.llama_vocab_get_add_bos(vocab)),
            adds_eos=bool(_c.llama_vocab_get_add_eos(vocab) or _c.llama_vocab_get_add_sep(vocab)),
            chat_template=template.decode("utf-8", "replace") if template else None,
            bos_text=self._token_text(bos),
            eos_text=self._token_text(eos),
            has_encoder=bool(_c.llama_model_has_encoder(handle)),
            has_decoder=bool(_c.llama_model_has_decoder(handle)),
            metadata=metadata,
        )

    def _token_text(self, token: int) -> str:
        if not 0 <= token < self._n_vocab:
            return ""
        return self.piece(token, special=True).decode("utf-8", "replace")

    def _metadata(self) -> dict[str, str]:
        handle = self._handle

        def read(call: Any, index: int) -> str:
            buffer = ctypes.create_string_buffer(256)
            size = call(handle, index, buffer, len(buffer))
            if size >= len(buffer):
                buffer = ctypes.create_string_buffer(size + 1)
                call(handle, index, buffer, len(buffer))
            return buffer.value.decode("utf-8", "replace")

        return {
            read(_c.llama_model_meta_key_by_index, index): read(_c.llama_model_meta_val_str_by_index, index)
            for index in range(_c.llama_model_meta_count(handle))
        }

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = _c.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, parse_special)
            if count >= 0:
                return tokens[:count]
            room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        known = self._pieces.get((token, special))
        if known is not None:
            return known
        self._check_range(token)
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = _c.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if size >= 0:
                break
            room = -size
        found = self._pieces[token, special] = buffer.raw[:size]
        return found

    def detokenize(self, tokens: Sequence[int], *, remove_special: bool = False, unparse_special: bool = True) -> str:
        for token in tokens:
            self._check_range(token)
        count = len(tokens)
        array = (ctypes.c_int32 * max(count, 1))(*tokens)
        room = 8 * count + 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = _c.llama_detokenize(self._vocab, array, count, buffer, room, remove_special, unparse_special)
            if size >= 0:
                return buffer.raw[:size].decode("utf-8", "replace")
            room = -size

    def _check_range(self, token: int) -> None:
        # The native code would end the process with an exception that nobody catches.
        if not 0 <= token < self._n_vocab:
            raise ValueError(f"token {token} is not in the vocabulary of {self._n_vocab}")

    def is_end(self, token: int) -> bool:
        known = self._ends.get(token)
        if known is None:  # asking for all of a large vocabulary would take 50 ms of the load
            known = 0 <= token < self._n_vocab and bool(_c.llama_vocab_is_eog(self._vocab, token))
            self._ends[token] = known
        return known

    def context(self, kind: ContextKind, *, ctx_len: int, slots: int, spec: LoadSpec) -> Context:
        if kind == "generate" and (self.description.has_encoder or not self.description.has_decoder):
            raise ModelRejected(f"a model of architecture {self.description.architecture!r} does not generate text")
        _log.take_words()
        _log.buffers.clear()
        make = _GenerateContext if kind == "generate" else _EmbedContext
        return make(self._handle, self._vocab, ctx_len, slots, spec)

    def memory(self) -> tuple[Memory, ...]:
        return memory_of(self._buffers, self._file_bytes)

    def close(self) -> None:
        if self._handle:
            _c.llama_model_free(self._handle)
            self._handle = None


class _LlamaContext(Context):
    """What both kinds share; a subclass says what it asks of llama.cpp."""

    def __init__(self, model: Any, vocab: Any, ctx_len: int, slots: int, spec: LoadSpec) -> None:
        self._model, self._vocab = model, vocab
        self._ctx_len = ctx_len
        self._movable = not (_c.llama_model_is_recurrent(model) or _c.llama_model_is_hybrid(model))
        parameters = self._parameters(ctx_len, slots, spec)
        self._handle = _c.llama_init_from_model(model, parameters)
        if not self._handle:
            raise _failure("a context could not be made")
        self._memory = _c.llama_get_memory(self._handle)
        self._buffers = dict(_log.buffers)
        self.n_ctx = int(_c.llama_n_ctx(self._handle))
        self.n_batch = int(_c.llama_n_batch(self._handle))
        self.n_sequences = int(_c.llama_n_seq_max(self._handle))
        self.can_share_prefix = self.can_cut = self.can_shift = False
        self._n_outputs_max = int(parameters.n_outputs_max) or self.n_batch
        self._batch = _NativeBatch(self.n_batch)

    def _parameters(self, ctx_len: int, slots: int, spec: LoadSpec) -> Any:
        if spec.kv_type not in _KV_TYPES:
            raise ModelRejected(f"unknown KV cache type {spec.kv_type!r}")
        parameters = _c.llama_context_default_params()
        parameters.n_threads = spec.threads or parameters.n_threads
        parameters.n_threads_batch = spec.threads_batch or spec.threads or parameters.n_threads_batch
        parameters.type_k = parameters.type_v = _KV_TYPES[spec.kv_type]
        parameters.flash_attn_type = _FLASH_ATTENTION[spec.flash_attention]
        parameters.kv_unified = True
        # A cache of only the window could be cut at no position that matters.
        parameters.swa_full = True
        return parameters

    def decode(self, batch: Batch) -> None:
        raise BackendError("this context does not decode")

    def sampler(self, parameters: SamplingParameters, grammar: str | None = None) -> Sampler:
        raise BackendError("this context does not sample")

    def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
        raise BackendError("this context does not sample")

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        raise BackendError("this context does not embed")

    def remove(self, sequence_id: int, start: int, end: int) -> bool:
        return bool(_c.llama_memory_seq_rm(self._memory, sequence_id, start, end))

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        assert self.can_share_prefix, "copy without can_share_prefix"
        _c.llama_memory_seq_cp(self._memory, source, target, start, end)

    def shift(self, sequence_id: int, start: int, end: int, delta: int) -> None:
        assert self.can_shift, "shift without can_shift"
        _c.llama_memory_seq_add(self._memory, sequence_id, start, end, delta)

    def set_threads(self, decode: int, prefill: int) -> None:
        _c.llama_set_n_threads(self._handle, decode, prefill)

    def memory(self) -> tuple[Memory, ...]:
        return memory_of(self._buffers)

    def close(self) -> None:
        if self._handle:
            _c.llama_free(self._handle)
            self._handle = None


class _GenerateContext(_LlamaContext):
    def __init__(self, model: Any, vocab: Any, ctx_len: int, slots: int, spec: LoadSpec) -> None:
        super().__init__(model, vocab, ctx_len, slots, spec)
        if not self._memory:  # an encoder: there is nothing to continue from
            self.close()
            raise ModelRejected("this model does not generate text")
        self.can_share_prefix = self.can_cut = self._movable
        self.can_shift = self._movable and bool(_c.llama_memory_can_shift(self._memory))
        self._n_vocab = int(_c.llama_vocab_n_tokens(vocab))
        self._picker = Picker(self._n_vocab)

    def _parameters(self, ctx_len: int, slots: int, spec: LoadSpec) -> Any:
        parameters = super()._parameters(ctx_len, slots, spec)
        parameters.n_ctx = -(-ctx_len * slots // _CELLS_MULTIPLE) * _CELLS_MULTIPLE
        parameters.n_batch = parameters.n_ubatch = min(spec.n_batch, parameters.n_ctx)
        parameters.n_seq_max = min(slots + self._spare_ids(), _MAX_SEQUENCES)
        # One row of logits per sequence at most: with llama.cpp's default of n_batch rows the compute buffer
        # takes 0.3 GB for a vocabulary of 150,000. Less than n_seq_max is an assertion in llama.cpp.
        parameters.n_outputs_max = parameters.n_seq_max
        return parameters

    def _spare_ids(self) -> int:
        """Ids for finished sequences whose cells are kept.

        Room for a row of logits is reserved for every id, so a large vocabulary gets fewer. A recurrent model
        has a state of fixed size for every id, and cannot be cut anyway.
        """
        if not self._movable:
            return 0
        row_bytes = 4 * max(int(_c.llama_vocab_n_tokens(self._vocab)), 1)
        return max(_SPARE_ROWS_BYTES // row_bytes, 8)

    def decode(self, batch: Batch) -> None:
        assert 0 < len(batch) <= self.n_batch, "a batch of no legal size"
        assert sum(batch.outputs) <= self._n_outputs_max, "more outputs than sequences"
        self._batch.fill(batch)
        code = _c.llama_decode(self._handle, self._batch.native)
        if code == _NO_CELLS:
            raise KVCacheFull
        if code:
            raise BackendError(f"llama_decode returned {code}: {_log.take_words()}")

    def sampler(self, parameters: SamplingParameters, grammar: str | None = None) -> Sampler:
        return LlamaSampler(self._vocab, self._n_vocab, self._ctx_len, parameters, grammar)

    def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
        handle, pick = self._handle, self._picker.pick
        return [pick(handle, cast(LlamaSampler, sampler), row) for sampler, row in picks]


class _EmbedContext(_LlamaContext):
    """Inputs are taken whole; nothing is kept from one `embed` to the next."""

    def __init__(self, model: Any, vocab: Any, ctx_len: int, slots: int, spec: LoadSpec) -> None:
        super().__init__(model, vocab, ctx_len, slots, spec)
        self._n_embd = int(_c.llama_model_n_embd_out(model))

    def _parameters(self, ctx_len: int, slots: int, spec: LoadSpec) -> Any:
        parameters = super()._parameters(ctx_len, slots, spec)
        # An input must fit into one physical batch: it is never split.
        size = min(spec.n_batch, ctx_len * slots)
        parameters.n_ctx = -(-max(size, ctx_len) // _CELLS_MULTIPLE) * _CELLS_MULTIPLE
        parameters.n_batch = parameters.n_ubatch = size
        parameters.n_seq_max = min(_MAX_SEQUENCES, size)
        parameters.n_outputs_max = size
        parameters.embeddings = True
        if not _has_pooling(self._model):
            parameters.pooling_type = _POOLING_MEAN
        return parameters

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        batch = Batch()
        for number, tokens in enumerate(sequences):
            for position, token in enumerate(tokens):
                batch.add(token, position, number, True)
        assert 0 < len(batch) <= self.n_batch, "a batch of no legal size"
        assert len(sequences) <= self.n_sequences, "more inputs than sequence ids"
        if self._memory:
            _c.llama_memory_clear(self._memory, False)
        self._batch.fill(batch)
        code = (_c.llama_decode if self._memory else _c.llama_encode)(self._handle, self._batch.native)
        if code:
            raise BackendError(f"embedding returned {code}: {_log.take_words()}")
        return [self._vector(number) for number in range(len(sequences))]

    def _vector(self, number: int) -> list[float]:
        pointer = _c.llama_get_embeddings_seq(self._handle, number)
        if not pointer:
            raise BackendError("no vector for a sequence")
        numbers: list[float] = pointer[: self._n_embd]
        return numbers


def _has_pooling(model: Any) -> bool:
    """Whether the file names a way of pooling; a chat model does not, and the mean is taken then."""
    buffer = ctypes.create_string_buffer(64)
    if _c.llama_model_meta_val_str(model, b"general.architecture", buffer, len(buffer)) < 0:
        return False
    key = buffer.value + b".pooling_type"
    size = _c.llama_model_meta_val_str(model, key, buffer, len(buffer))
    return size > 0 and buffer.value != str(_POOLING_NONE).encode()


class _NativeBatch:
    """A llama_batch over arrays that live as long as the context: filling is four slice assignments."""

    def __init__(self, room: int) -> None:
        self._tokens: Any = (ctypes.c_int32 * room)()
        self._positions: Any = (ctypes.c_int32 * room)()
        self._ids: Any = (ctypes.c_int32 * room)()
        self._outputs: Any = (ctypes.c_int8 * room)()
        counts = (ctypes.c_int32 * room)(*([1] * room))
        pointer = ctypes.POINTER(ctypes.c_int32)
        start, size = ctypes.addressof(self._ids), ctypes.sizeof(ctypes.c_int32)
        rows = (pointer * room)(*(ctypes.cast(start + size * row, pointer) for row in range(room)))
        self._kept_alive = (counts, rows)
        self.native = _c.llama_batch()
        self.native.token = self._tokens
        self.native.pos = self._positions
        self.native.n_seq_id = counts
        self.native.seq_id = rows
        self.native.logits = self._outputs

    def fill(self, batch: Batch) -> None:
        count = len(batch)
        self.native.n_tokens = count
        self._tokens[:count] = batch.tokens
        self._positions[:count] = batch.positions
        self._ids[:count] = batch.sequence_ids
        self._outputs[:count] = batch.outputs
