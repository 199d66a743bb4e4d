"""The start-up line ``server config``: a Go map of variables and what they came to. Source: runtime contract 3.7."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ollamad.config.durations import format_duration
from ollamad.config.host import Host
from ollamad.config.sections import Config
from ollamad.config.values import trim

#: Printed as they stand in the environment. Those of proxies may hold credentials, which are masked.
_PLAIN = (
    "CUDA_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LLAMA_ARG_FIT",
    "LLAMA_ARG_FIT_TARGET",
    "NO_PROXY",
    "OLLAMA_EDITOR",
    "OLLAMA_LLM_LIBRARY",
    "ROCR_VISIBLE_DEVICES",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

#: Variables of Ollama that no option of ours stands for yet: name -> default as Ollama prints it.
_FOREIGN_BOOLEANS = {
    "OLLAMA_DEBUG_LOG_REQUESTS": "false",
    "OLLAMA_IGPU_ENABLE": "",
    "OLLAMA_NOHISTORY": "false",
    "OLLAMA_NO_CLOUD": "false",
    "OLLAMA_VULKAN": "true",
}
_FOREIGN_NUMBERS = {"OLLAMA_MAX_TRANSFER_STREAMS": "4"}


def environment_line(config: Config, origins: Sequence[str]) -> str:
    """``map[KEY:value ...]``, keys in byte order. *origins* are all that are allowed, built-in ones too."""
    values = _foreign(config.environment) | {key: shown(config) for key, shown in _OURS.items()}
    values["OLLAMA_ORIGINS"] = _list(origins)
    return f"map[{' '.join(f'{key}:{values[key]}' for key in sorted(values))}]"


def _foreign(environ: Mapping[str, str]) -> dict[str, str]:
    values = {key: _masked(trim(environ.get(key, ""))) for key in _PLAIN}
    for key, default in _FOREIGN_BOOLEANS.items():
        text = trim(environ.get(key, ""))
        values[key] = ("false" if text in ("0", "f", "F", "FALSE", "false", "False") else "true") if text else default
    for key, default in _FOREIGN_NUMBERS.items():
        text = trim(environ.get(key, ""))
        values[key] = text if text.isascii() and text.isdigit() else default
    values["OLLAMA_REMOTES"] = _list((trim(environ.get("OLLAMA_REMOTES", "")) or "ollama.com").split(","))
    return values


def _masked(text: str) -> str:
    """*text* with the credentials of a URL hidden (Quirk Q5)."""
    return re.sub(r"(^|://)[^/@\s]*@", r"\1***@", text)


def _list(items: Iterable[str]) -> str:
    return f"[{' '.join(items)}]"


def _bool(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


_OURS: dict[str, Callable[[Config], str]] = {
    "OLLAMA_CONTEXT_LENGTH": lambda config: str(config.runner.context_length),
    "OLLAMA_DEBUG": lambda config: config.logging.level,
    "OLLAMA_FLASH_ATTENTION": lambda config: _bool(config.runner.flash_attention),
    "OLLAMA_GO_TEMPLATE": lambda config: _bool(config.runner.go_template is not False),
    "OLLAMA_GPU_OVERHEAD": lambda config: str(config.scheduler.gpu_overhead_bytes),
    "OLLAMA_HOST": lambda config: Host("http", config.server.host, config.server.port).url,
    "OLLAMA_KEEP_ALIVE": lambda config: format_duration(config.scheduler.keep_alive_ns),
    "OLLAMA_KV_CACHE_TYPE": lambda config: (
        "" if config.settings["runner.kv_cache_type"].source == "default" else config.runner.kv_cache_type
    ),
    "OLLAMA_LOAD_TIMEOUT": lambda config: format_duration(config.scheduler.load_timeout_ns),
    "OLLAMA_MAX_LOADED_MODELS": lambda config: str(config.scheduler.max_loaded_models),
    "OLLAMA_MAX_QUEUE": lambda config: str(config.scheduler.max_queue),
    "OLLAMA_MODELS": lambda config: str(config.store.path),
    "OLLAMA_NOPRUNE": lambda config: _bool(config.store.noprune),
    "OLLAMA_NUM_PARALLEL": lambda config: str(config.scheduler.num_parallel or "auto"),
    "OLLAMA_SCHED_SPREAD": lambda config: _bool(config.scheduler.spread),
}
