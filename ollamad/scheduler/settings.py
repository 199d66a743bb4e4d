"""What the configuration says to the scheduler, as one frozen value.

Built by `daemon/` from the sections ``[scheduler]`` and ``[runner]``; the scheduler itself reads no configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The scheduler's section.

    Attributes:
        max_queue: Admitted requests without a slot, over all models; one more is refused. 0: none may wait.
        max_loaded_models: 0 is automatic, three times the number of GPUs (at least three).
        num_parallel: Slots of a model; None is automatic: as many full contexts, 1 to 8, as fit.
        keep_alive_ns: Hold time of a fresh load; `FOREVER_NS` for ever.
        load_timeout_ns: Silence of a loading runner that ends it; 0 for never.
        max_loading: Loads that may run at once.
        memory_budget_bytes: Host memory that models may take; 0 is automatic, four fifths of what is free.
        gpu_overhead_bytes: Taken off each GPU when the default context length is chosen.
        device_wait_ns: How long the first load waits for the device probe before it goes to the CPU.
        architectures: Architectures that one backend alone runs, and its name.
        backend: The general backend, for devices that do not name theirs.
    """

    max_queue: int = 512
    max_loaded_models: int = 0
    num_parallel: int | None = None
    keep_alive_ns: int = 5 * MINUTE_NS
    load_timeout_ns: int = 5 * MINUTE_NS
    max_loading: int = 1
    memory_budget_bytes: int = 0
    gpu_overhead_bytes: int = 0
    spread: bool = False
    flash_attention: bool | None = None
    kv_type: str = "f16"
    step_ms: int = 200
    threads: int = 0
    threads_batch: int = 0
    adapt_threads: bool = True
    speculate: bool = True
    device_wait_ns: int = 30 * 10**9
    architectures: Mapping[str, str] = field(default_factory=dict)
    backend: str = "llama-cpu"
