"""From a wish to a `LoadSpec`: context, slots, batch, devices, bytes. Pure.

Says one of three things: a `Plan` that fits, `NoRoom` (something loaded has to go first), or raises
`OutOfMemory` when the model cannot fit even alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ollamad.errors import OutOfMemory
from ollamad.scheduler import placement
from ollamad.scheduler.placement import HostMemory
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.scheduler.wish import Loaded, Wish, clamp_context
from ollamad.types import Device, LoadParameters, Memory, Placed
from ollamad.wire.messages import LoadSpec

#: Families whose runners keep state per sequence in a way that allows one slot only.
ONE_SLOT_FAMILIES = frozenset(
    "mllama qwen3vl qwen3vlmoe qwen35 qwen35moe qwen3next "  # noqa: SIM905 - a list of words
    "lfm2 lfm2moe nemotron_h nemotron_h_moe nemotron_h_omni".split()
)
MOST_AUTOMATIC_SLOTS = 8

#: What a load takes is a function of these: digest, tokens per slot, slots, KV type, device kind.
LearnedKey = tuple[str, int, int, str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """The devices, main memory, and bytes that loaded models take of each device."""

    devices: tuple[Device, ...] = ()
    host: HostMemory = HostMemory()
    used: Mapping[str, int] = field(default_factory=dict)
    mapped_bytes: int = 0
    others_loaded: bool = False
    system: str = "linux"

    @property
    def host_used(self) -> int:
        """Bytes of main memory that loaded models take."""
        return host_bytes(self.used, self.devices)


def host_bytes(use: Mapping[str, int], devices: Iterable[Device]) -> int:
    """The part of *use* that lies in main memory: all that is on no GPU, whatever a backend calls the processor."""
    elsewhere = {device.id for device in placement.gpus(devices)}
    return sum(size for device, size in use.items() if device not in elsewhere)


def highest(known: Iterable[Memory], reported: Iterable[Memory]) -> tuple[Memory, ...]:
    """What a load takes at most, by device and use: what it took now, and what it ever took on the same devices."""
    before = {part.device_id: part for part in known}
    now = {part.device_id: part for part in reported}
    if before.keys() != now.keys():
        return tuple(now.values())
    return tuple(
        Memory(
            part.device_id,
            part.kind,
            max(part.weights_bytes, before[name].weights_bytes),
            max(part.kv_bytes, before[name].kv_bytes),
            max(part.compute_bytes, before[name].compute_bytes),
        )
        for name, part in now.items()
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Less than asked for, after a load that failed for memory."""

    num_ctx: int | None = None
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A load that may start. ``use`` are the bytes that it is expected to take, by device."""

    spec: LoadSpec
    loaded: Loaded
    use: Mapping[str, int]
    learned_key: LearnedKey


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Something loaded has to go first."""

    needed_bytes: int
    free_bytes: int
    devices: frozenset[str] = frozenset()


def has_one_slot(wish: Wish) -> bool:
    """Whether this model is limited to one slot whatever the configuration says."""
    config = wish.model.config
    families = {config.model_family, wish.model.facts.architecture, *(config.model_families or ())}
    return not is_completion(wish) or bool(families & ONE_SLOT_FAMILIES)


def is_completion(wish: Wish) -> bool:
    """Whether the model writes text; the others only embed."""
    return "completion" in wish.model.capabilities


def backend_devices(
    wish: Wish, settings: SchedulerSettings, devices: tuple[Device, ...]
) -> tuple[str, tuple[Device, ...]]:
    """The backend that runs this model, "" when its devices name theirs, and the devices it may use."""
    special = settings.architectures.get(wish.model.facts.architecture)
    if special is not None:
        return special, tuple(d for d in devices if d.backend == special) or tuple(
            d for d in devices if d.kind == "cpu"
        )
    others = set(settings.architectures.values())
    return "", tuple(d for d in devices if d.backend not in others)


def make_plan(
    wish: Wish,
    settings: SchedulerSettings,
    machine: Machine,
    *,
    limits: Limits = Limits(),
    learned: Mapping[LearnedKey, tuple[Memory, ...]] | None = None,
) -> Plan | NoRoom:
    """Decide how *wish* is loaded now.

    Raises:
        OutOfMemory: More than the machine, or the configured budget, has in all.
    """
    backend, devices = backend_devices(wish, settings, machine.devices)
    offload = placement.gpus(devices) if wish.load.num_gpu != 0 else ()
    # Several backends may list the one processor; the first of them is as good as any.
    pool = offload or tuple(d for d in devices if d.kind == "cpu")[:1]
    free = placement.with_tracked_use(pool, machine.used)
    draft = _Draft(wish, settings, machine, backend, free, learned or {}, limits)
    for slots in _slot_candidates(wish, settings, limits):
        plan, room = draft.with_slots(slots)
        if plan is not None:
            return plan
    return room


def _slot_candidates(wish: Wish, settings: SchedulerSettings, limits: Limits) -> Iterator[int]:
    if has_one_slot(wish):
        yield 1
    elif settings.num_parallel is not None:
        yield max(1, settings.num_parallel)
    else:
        yield from range(min(limits.slots or MOST_AUTOMATIC_SLOTS, MOST_AUTOMATIC_SLOTS), 0, -1)


@dataclass(frozen=True, slots=True)
class _Draft:
    """The part of a plan that does not depend on the number of slots."""

    wish: Wish
    settings: SchedulerSettings
    machine: Machine
    backend: str
    free: tuple[Device, ...]
    learned: Mapping[LearnedKey, tuple[Memory, ...]]
    limits: Limits

    @property
    def on_gpu(self) -> bool:
        return bool(placement.gpus(self.free))

    def context(self) -> int:
        load, facts = self.wish.load, self.wish.model.facts
        wanted = load.num_ctx or placement.context_tier(self.machine.devices, self.settings.gpu_overhead_bytes)
        if self.limits.num_ctx is not None:
            wanted = min(wanted, self.limits.num_ctx)
        return max(1, clamp_context(wanted, facts.context_length))

    def with_slots(self, slots: int) -> tuple[Plan | None, NoRoom]:
        ctx = self.context()
        key = (self._digest(), ctx, slots, _kv_form(self.settings), self.free[0].kind if self.free else "cpu")
        predicted = self._predicted(key, ctx * slots)
        choice = placement.choose_devices(
            self.free,
            predicted,
            host_free=self.machine.host.free_bytes,
            main_gpu=self.wish.load.main_gpu,
            num_gpu=self.wish.load.num_gpu,
            spread=self.settings.spread,
        )
        room = self._room(choice.devices)
        batch = self._batch(ctx, slots, predicted, room, choice.devices)
        if is_completion(self.wish) and self.wish.load.num_batch_automatic and key not in self.learned:
            predicted += placement.BATCH_SURCHARGE.get(batch, 0) if self.on_gpu else 0
        full = NoRoom(predicted, room, frozenset(device.id for device in self.free))
        if not self._fits(predicted, room, slots):
            return None, full
        return self._plan(key, ctx, slots, batch, predicted, choice), full

    def _digest(self) -> str:
        weights = self.wish.model.weights
        return weights[0].digest if weights else self.wish.key

    def _predicted(self, key: LearnedKey, total_ctx: int) -> int:
        known = self.learned.get(key)
        if known:
            return sum(m.weights_bytes + m.kv_bytes + m.compute_bytes for m in known)
        size = sum(ref.size_bytes for ref in self.wish.model.weights)
        return placement.predict(self.wish.model.facts, size, total_ctx, self.settings.kv_type)

    def _room(self, devices: tuple[Device, ...]) -> int:
        """Bytes that may be planned on *devices*: exactly the configured budget, or four fifths of what is free."""
        if placement.gpus(devices):
            return placement.most(placement.available(devices, self.machine.host.free_bytes).bytes)
        used = self.machine.host_used
        if self.settings.memory_budget_bytes:
            return self.settings.memory_budget_bytes - used
        host = self.machine.host
        if not host.total_bytes:
            return placement.most(placement.available(devices, host.free_bytes).bytes)
        return placement.most(max(0, min(host.free_bytes, host.total_bytes - used)))

    def _fits(self, predicted: int, room: int, slots: int) -> bool:
        """Whether to start; alone on the machine, one slot (or what was asked for) starts even over the estimate."""
        load, facts = self.wish.load, self.wish.model.facts
        if self.on_gpu and placement.is_partial_offload(load.num_gpu, facts.block_count):
            return True
        if predicted <= room:
            return True
        if slots > 1 and self.settings.num_parallel is None:
            return False
        if not self.on_gpu:
            self._check_limit(predicted)
        return not self.machine.others_loaded

    def _check_limit(self, predicted: int) -> None:
        budget = self.settings.memory_budget_bytes or self.machine.host.total_bytes
        if budget and predicted > budget:
            raise OutOfMemory(
                f"model requires {predicted} bytes of memory, more than the {budget} bytes that this server may use",
                permanent=True,
            )

    def _batch(self, ctx: int, slots: int, predicted: int, room: int, devices: tuple[Device, ...]) -> int:
        load = self.wish.load
        if not is_completion(self.wish):
            return load.num_batch or min(2048, ctx)
        if not load.num_batch_automatic:
            return load.num_batch
        # `room` is four fifths of what is available, the batch rule starts from the whole.
        return placement.automatic_batch(
            ctx * slots,
            predicted,
            room * 5 // 4,
            flash_attention=self.settings.flash_attention,
            devices=devices,
        )

    def _effective(self, ctx: int, batch: int, predicted: int, choice: placement.Choice) -> tuple[LoadParameters, bool]:
        load = self.wish.load
        weights = self.wish.model.weights
        reason = placement.mmap_off_reason(
            system=self.machine.system,
            num_gpu=load.num_gpu,
            use_mmap=load.use_mmap,
            devices=choice.devices,
            block_count=self.wish.model.facts.block_count,
            predicted=predicted,
            available_bytes=placement.available(choice.devices, self.machine.host.free_bytes).bytes,
            host=self.machine.host,
            file_bytes=sum(ref.size_bytes for ref in weights),
            mapped_bytes=self.machine.mapped_bytes,
        )
        use_mmap = False if reason else load.use_mmap
        return replace(load, num_ctx=ctx, num_batch=batch, use_mmap=use_mmap), reason is not None

    def _plan(
        self, key: LearnedKey, ctx: int, slots: int, batch: int, predicted: int, choice: placement.Choice
    ) -> Plan:
        wish, settings = self.wish, self.settings
        load, mmap_automatic = self._effective(ctx, batch, predicted, choice)
        use = _spread_bytes(predicted, choice.devices)
        spec = LoadSpec(
            backend=self.backend or next((d.backend for d in choice.devices if d.backend), settings.backend),
            weights=wish.model.weights,
            adapters=wish.model.adapters,
            projectors=wish.model.projectors,
            draft=wish.model.draft,
            placement=_placed(use, choice.devices, load.num_gpu),
            ctx_len=ctx,
            slots=slots,
            n_batch=batch,
            kv_type=settings.kv_type,
            flash_attention=settings.flash_attention,
            use_mmap=load.use_mmap,
            main_gpu=choice.main_gpu,
            threads=load.num_thread or settings.threads,
            threads_batch=load.num_thread or settings.threads_batch,
            adapt_threads=settings.adapt_threads,
            speculate=settings.speculate,
            step_ms=settings.step_ms,
            embedding=not is_completion(wish),
            context_shift=wish.shift,
        )
        return Plan(spec, Loaded(wish, load, mmap_automatic), use, key)


def _kv_form(settings: SchedulerSettings) -> str:
    """The KV type, and whether whole attention matrices are made: without flash attention they dwarf the rest."""
    return f"{settings.kv_type}, no flash attention" if settings.flash_attention is False else settings.kv_type


def _spread_bytes(predicted: int, devices: tuple[Device, ...]) -> dict[str, int]:
    """Share bytes among devices in the proportion of what each has free."""
    if len(devices) <= 1:
        return {devices[0].id if devices else "cpu": predicted}
    free = sum(device.free_bytes for device in devices) or len(devices)
    shares = {device.id: predicted * (device.free_bytes or 1) // free for device in devices}
    shares[devices[0].id] += predicted - sum(shares.values())
    return shares


def _placed(use: Mapping[str, int], devices: tuple[Device, ...], num_gpu: int) -> tuple[Placed, ...]:
    """Lines of the placement; the number of layers stands with the first device, -1 lets the backend split them."""
    if not devices:
        return (Placed("cpu", "cpu", 0, sum(use.values())),)
    layers = 0 if devices[0].kind == "cpu" else num_gpu
    return tuple(Placed(d.id, d.kind, layers, use[d.id]) for d in devices)
