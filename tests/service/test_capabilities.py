"""What models can do and how their prompts are made. Ids: models contract, appendix H and L3."""

from __future__ import annotations

import pytest

from ollamad.service.capabilities import of_listing, of_model, prompt_path
from ollamad.service.model_facts import FileFacts, ListedFacts
from ollamad.types import ModelConfig, ModelFacts

C = ModelFacts(architecture="llama")
V = ModelFacts(architecture="llama", has_vision=True)
E = ModelFacts(architecture="bert", has_pooling=True)
J = ModelFacts(architecture="llama", chat_template="{% if tools %}<tool_call>{% endif %}<think></think>")
OMNI = ModelFacts(architecture="nemotron_h_omni", has_vision=True, has_audio=True)
NO_FILE = None

#: A projector that hears.
AP = FileFacts(ModelFacts(), ListedFacts(), has_audio_encoder=True, projector_type="pixtral")
GEMMA4V = FileFacts(ModelFacts(), ListedFacts(), has_audio_encoder=True, projector_type="gemma4v")
GEMMA3NV = FileFacts(ModelFacts(), ListedFacts(), has_audio_encoder=True, projector_type="gemma3nv")

TOOLS_AND_SUFFIX = "{{ .prompt }}{{ if .tools }}{{ .tools }}{{ end }}{{ if .suffix }}{{ .suffix }}{{ end }}"


def config(model_format: str = "gguf", **fields: object) -> ModelConfig:
    return ModelConfig(model_format=model_format, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "facts", "projectors", "template", "expected"),
    [
        pytest.param(config(capabilities=("image",)), NO_FILE, (), None, {"image"}, id="H1"),
        pytest.param(config(capabilities=("image", "vision")), NO_FILE, (), None, {"image", "vision"}, id="H2"),
        pytest.param(config(), C, (), "{{ .prompt }}", {"completion"}, id="H3"),
        pytest.param(config(), C, (), TOOLS_AND_SUFFIX, {"completion", "tools", "insert"}, id="H4"),
        pytest.param(config(), C, (), "{{ .prompt }}{{ .tools }}", {"completion", "tools"}, id="H5"),
        pytest.param(config(), J, (), None, {"completion", "tools", "thinking"}, id="H6"),
        pytest.param(
            config(capabilities=("completion", "tools"), parser="qwen3-coder"),
            NO_FILE,
            (),
            None,
            {"completion", "tools"},
            id="H8",
        ),
        pytest.param(config(), V, (), None, {"completion", "vision"}, id="H9"),
        pytest.param(config(), V, (), TOOLS_AND_SUFFIX, {"completion", "vision", "tools", "insert"}, id="H10"),
        pytest.param(config(), E, (), None, {"embedding"}, id="H11"),
        pytest.param(config(), C, (AP,), None, {"completion", "vision", "audio"}, id="H12"),
        pytest.param(
            config(parser="functiongemma"), C, (AP,), None, {"completion", "vision", "audio", "tools"}, id="H13"
        ),
        pytest.param(config(), C, (GEMMA4V,), None, {"completion", "vision", "audio"}, id="H14"),
        pytest.param(config(), C, (GEMMA3NV,), None, {"completion", "vision"}, id="gemma3n-does-not-hear"),
        pytest.param(
            config(renderer="gemma4-small", capabilities=("audio",)),
            C,
            (AP,),
            None,
            {"audio", "completion", "vision"},
            id="H15",
        ),
        pytest.param(config(model_family="nemotron_h_omni"), OMNI, (), None, {"completion", "vision"}, id="H16"),
        pytest.param(config(model_family="nemotron_h_omni"), C, (AP,), None, {"completion", "vision"}, id="H17"),
        pytest.param(
            config(
                "safetensors",
                parser="nemotron-3-nano",
                renderer="nemotron-3-nano",
                capabilities=("completion", "vision", "audio"),
            ),
            NO_FILE,
            (),
            None,
            {"completion", "tools", "thinking"},
            id="H18",
        ),
        *(
            pytest.param(
                config("safetensors", renderer=renderer, capabilities=("vision", "audio")),
                NO_FILE,
                (),
                None,
                set(),
                id=f"H19-{renderer}",
            )
            for renderer in ("gemma4-small", "gemma4-large", "gemma4")
        ),
        pytest.param(config(model_family="gptoss"), C, (), None, {"completion", "thinking"}, id="gpt-oss"),
        pytest.param(config(parser="nobody-knows"), C, (), None, {"completion"}, id="unknown-parser"),
    ],
)
def test_capabilities(
    model: ModelConfig,
    facts: ModelFacts | None,
    projectors: tuple[FileFacts, ...],
    template: str | None,
    expected: set[str],
) -> None:
    """Capabilities are gathered from config, file, projectors, template and parser."""
    path = prompt_path(model, facts.chat_template if facts else None, template)
    assert set(of_model(model, facts, projectors, template, path)) == expected


def test_order() -> None:
    """The file's own template speaks first, then the file."""
    assert of_model(config(), J, (), None, "native") == ("tools", "thinking", "completion")


def test_used_go_template_hides_the_chat_template() -> None:
    """H7: where the Go template is used, the file's own says nothing."""
    path = prompt_path(config(), J.chat_template, "{{ .prompt }}", use_go=True)
    assert of_model(config(), J, (), "{{ .prompt }}", path) == ("completion",)


CUSTOM = "CUSTOM {{ .Prompt }}"
THINKS = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}"
CALLS_ONLY = "{{ .Tools }}{{ range .Messages }}{{ .ToolCalls }}{{ end }}"
ROUND_TRIP = '{{ .Tools }}{{ range .Messages }}{{ .ToolCalls }}{{ if eq .Role "tool" }}x{{ end }}{{ end }}'
TOOLS = "{% if tools %}x{% endif %}"


@pytest.mark.parametrize(
    ("chat", "go", "use_go", "path"),
    [
        pytest.param("{{ messages }}", CUSTOM, None, "go", id="H30"),
        pytest.param(TOOLS, CUSTOM, None, "native", id="H31"),
        pytest.param(TOOLS + "{{ content.split('</think>') }}", THINKS, None, "native", id="H32"),
        pytest.param(TOOLS + "tool_calls message.role == 'tool'", CALLS_ONLY, None, "native", id="H33"),
        pytest.param(TOOLS + "<think></think>", ROUND_TRIP, None, "go", id="H34"),
        pytest.param(TOOLS, CUSTOM, True, "go", id="H35"),
        pytest.param(TOOLS, CUSTOM, False, "native", id="H36"),
        pytest.param(None, CUSTOM, None, "go", id="H37"),
        pytest.param(None, None, None, "none", id="no-template"),
        pytest.param(TOOLS, None, None, "native", id="no-go-template"),
        pytest.param(TOOLS, None, True, "native", id="nothing-to-use"),
    ],
)
def test_prompt_path(chat: str | None, go: str | None, use_go: bool | None, path: str) -> None:
    """The Go template is used unless the file's own can do more, or the setting says otherwise."""
    assert prompt_path(config(), chat, go, use_go=use_go) == path


@pytest.mark.parametrize(
    "model",
    [config(renderer="x"), config(parser="x"), config(model_family="gptoss")],
    ids=["renderer", "parser", "oss"],
)
def test_rendered_models(model: ModelConfig) -> None:
    """A renderer, a parser or gpt-oss with its template mean the rendered path whatever the file says."""
    assert prompt_path(model, TOOLS, "<|start|>{{ .Prompt }}<|end|>", use_go=False) == "go"


def test_listing() -> None:
    """The list looks at the file, config, Go template and projector, not at the chat template."""
    listed = ListedFacts(capabilities=("completion",))
    template = TOOLS_AND_SUFFIX + THINKS
    assert of_listing(config(), listed, template, has_projector=False) == (
        "completion",
        "tools",
        "insert",
        "thinking",
    )
    assert of_listing(config(capabilities=("image",)), None, None, has_projector=True) == ("image", "vision")
