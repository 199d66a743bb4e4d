"""What a model can do, and which template makes its prompts: pure functions over config, files and texts.

Source: models contract 5.8, 7.1; http contract 7.1, 8.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ollamad.service import go_text
from ollamad.service.model_facts import FileFacts, ListedFacts
from ollamad.types import ModelConfig, ModelFacts, PromptPath

#: What each built-in parser of outputs offers. Source: models contract 8.5.
_PARSERS: dict[str, tuple[str, ...]] = {
    "passthrough": (),
    "olmo3-think": ("thinking",),
    **dict.fromkeys(
        (
            "qwen3",
            "qwen3-coder",
            "qwen3-vl-instruct",
            "olmo3",
            "functiongemma",
            "glm-ocr",
            "gemma4-no-thinking",
            "lfm2",
        ),
        ("tools",),
    ),
    **dict.fromkeys(
        (
            "qwen3-thinking",
            "qwen3-vl-thinking",
            "qwen3.5",
            "ornith",
            "ministral",
            "harmony",
            "cogito",
            "deepseek3",
            "nemotron-3-nano",
            "nemotron-3.5-nano",
            "glm-4.7",
            "gemma4",
            "lfm2-thinking",
            "laguna",
            "poolside-v1",
            "cohere",
            "glimmer",
        ),
        ("tools", "thinking"),
    ),
}
_GPT_OSS = ("gptoss", "gpt-oss")
_TOOL_RESULTS = (
    "tool_response",
    "tool_results",
    "role'] == 'tool'",
    'role\'] == "tool"',
    "role\"] == 'tool'",
    'role"] == "tool"',
    "message.role == 'tool'",
    'message.role == "tool"',
    "ipython",
)


def prompt_path(
    config: ModelConfig, chat_template: str | None, go_template: str | None, *, use_go: bool | None = None
) -> PromptPath:
    """Choose how prompts are made. ``use_go`` is ``OLLAMA_GO_TEMPLATE``, None where it is not set.

    A renderer or parser of the config means the rendered path, ``go`` here, also without a Go template.
    """
    if config.renderer or config.parser or is_harmony(config, go_template):
        return "go"
    if go_template is not None and use_go is not False and (use_go or not _prefers(chat_template, go_template)):
        return "go"
    return "native" if chat_template else "none"


def is_harmony(config: ModelConfig, go_template: str | None) -> bool:
    """Whether this is a gpt-oss model with its own template."""
    text = go_template or ""
    return config.model_family in _GPT_OSS and "<|start|>" in text and "<|end|>" in text


def of_model(
    config: ModelConfig,
    facts: ModelFacts | None,
    projectors: Sequence[FileFacts],
    go_template: str | None,
    path: PromptPath,
) -> tuple[str, ...]:
    """Everything a model can do, in the order that `show` tells. ``facts`` None: a model without a GGUF."""
    found = list(config.capabilities)
    if facts is not None:
        if path == "native":
            found += _of_chat_template(facts.chat_template)
        found.append("embedding" if facts.has_pooling else "completion")
        found += [kind for kind, has in (("vision", facts.has_vision), ("audio", facts.has_audio)) if has]
        found += _of_projectors(projectors)
    if go_template is not None and path == "go":
        found += _of_go_template(go_template)
    found += _PARSERS.get(config.parser, ())
    if config.model_family in _GPT_OSS:
        found.append("thinking")
    removed = _removed(config, facts)
    return tuple(kind for kind in dict.fromkeys(found) if kind not in removed)


def of_listing(
    config: ModelConfig, listed: ListedFacts | None, go_template: str | None, *, has_projector: bool
) -> tuple[str, ...]:
    """What the model list says: shorter than `of_model`, for no chat template is looked at."""
    found = [*(listed.capabilities if listed else ()), *config.capabilities]
    tools_and_more = {*_of_go_template(go_template or ""), *_PARSERS.get(config.parser, ())}
    found += [kind for kind in ("tools", "insert", "thinking") if kind in tools_and_more]
    if has_projector:
        found.append("vision")
    return tuple(dict.fromkeys(found))


def _of_projectors(projectors: Sequence[FileFacts]) -> list[str]:
    if not projectors:
        return []
    hears = any(file.has_audio_encoder and file.projector_type != "gemma3nv" for file in projectors)
    return ["vision", "audio"] if hears else ["vision"]


def _of_go_template(text: str) -> list[str]:
    names = go_text.variables(text)
    found = [kind for kind, name in (("tools", "tools"), ("insert", "suffix")) if name in names]
    return [*found, "thinking"] if go_text.thinking_tags(text) else found


def _of_chat_template(text: str | None) -> list[str]:
    if not text:
        return []
    found = ["tools"] if "tools" in text or "tool_call" in text else []
    return [*found, "thinking"] if _thinks(text) else found


def _thinks(text: str) -> bool:
    if "<think>" in text and "</think>" in text:
        return True
    splits = "content.split('</think>')" in text or 'content.split("</think>")' in text
    return splits and "reasoning_content" not in text and "<SPECIAL_12>" not in text


def _chat_has_round_trip(text: str) -> bool:
    calls = "tool_calls" in text or "assistant_tool_call" in text
    return "tools" in _of_chat_template(text) and calls and any(mark in text for mark in _TOOL_RESULTS)


def _prefers(chat_template: str | None, go_template: str) -> bool:
    """Whether the file's own template is used although there is a Go template."""
    if not chat_template:
        return False
    chat, go = set(_of_chat_template(chat_template)), set(_of_go_template(go_template))
    chat_trip, go_trip = _chat_has_round_trip(chat_template), go_text.has_tool_round_trip(go_template)
    if len(chat) > len(go) and (chat_trip or not go_trip):
        return True
    return chat == go and "tools" in chat and chat_trip and not go_trip


def _removed(config: ModelConfig, facts: ModelFacts | None) -> frozenset[str]:
    nemotron = "nemotron-3-nano"
    if "nemotron_h_omni" in (config.model_family, facts.architecture if facts else ""):
        return frozenset(("audio", "vision")) if config.model_format == "safetensors" else frozenset(("audio",))
    if config.model_format != "safetensors":
        return frozenset()
    families: Iterable[str] = (config.parser, config.renderer, config.model_family)
    if config.renderer.startswith("gemma4") or nemotron in families:
        return frozenset(("audio", "vision"))
    return frozenset(("audio",)) if config.renderer == "glimmer" else frozenset()
