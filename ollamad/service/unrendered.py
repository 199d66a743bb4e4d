"""Models whose prompts this version cannot make: those with a Go template or with a named renderer."""

from __future__ import annotations

from ollamad.errors import RunnerFailed, Unsupported
from ollamad.types import ResolvedModel

GO_TEMPLATES = "Go templates are not available in this version of ollamad"

#: Source: models contract 8.9.
RENDERERS = frozenset(
    """cogito cohere deepseek3.1 functiongemma gemma4 gemma4-large gemma4-small glimmer glm-4.7 glm-ocr laguna lfm2
    lfm2-thinking nemotron-3-nano nemotron-3.5-nano olmo3 olmo3-32b-think olmo3-think olmo3.1 ornith poolside-v1
    qwen3-coder qwen3-vl-instruct qwen3-vl-thinking qwen3.5 qwen3.8""".split()  # noqa: SIM905 - a table of names
)


def refuse_unrendered(model: ResolvedModel) -> None:
    """Pass a model whose prompts the runner makes.

    Raises:
        Unsupported: Its prompts need what this version lacks.
        RunnerFailed: It names a renderer that there is not.
    """
    if model.prompt_path != "go":
        return
    renderer = model.config.renderer
    if renderer and renderer not in RENDERERS:
        raise RunnerFailed(f'unknown renderer "{renderer}"')
    raise Unsupported(f"renderer {renderer} is not available in this version of ollamad" if renderer else GO_TEMPLATES)
