"""What the text of a Go template tells. Ids: models contract, L3 and 7.7."""

from __future__ import annotations

import pytest

from ollamad.service.go_text import has_tool_round_trip, thinking_tags, variables


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (
            "{{ range .Messages }}{{ if and $last .Thinking }}\n<think>{{ .Thinking }}</think>\n{{ end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        ("{{ range .Messages }}{{ range .NotMessages }}<think>{{ .Thinking }}</think>{{ end }}{{ end }}", None),
        (
            "{{ range .Messages }}Some text before   {{ .Thinking }}    Some text after{{ end }}",
            ("Some text before", "Some text after"),
        ),
        (
            "{{ range $i, $m := .Messages }}{{ if .X }}a{{ else if .Thinking -}} <think>\n{{ .Thinking }}\n</think>"
            "{{- end }}{{ end }}",
            ("<think>", "</think>"),
        ),
        ("<think>{{ .Thinking }}</think>", None),
        ("{{ range .Messages }}{{/* <think> */}}{{ .Content }}{{ end }}", None),
        ("{{ range .Messages }}<think>{{ .Thinking }}{{ end }}", None),
        ("{{ .Open", None),
    ],
)
def test_inferred_tags(text: str, tags: tuple[str, str] | None) -> None:
    """L3: thinking tags are the texts around the field in a range over the messages."""
    assert thinking_tags(text) == tags


def test_variables() -> None:
    """Fields count in lower case, texts and comments do not."""
    text = '{{ if or .System .Tools }}{{ $m.ToolCalls }}{{ "a.b}}" }}{{/* ".C */}}{{- .A.B -}} .Text{{ end }}'
    assert variables(text) == {"system", "tools", "toolcalls", "a", "b"}
    assert has_tool_round_trip('{{ .Tools }}{{ .ToolCalls }}{{ if eq .Role "tool" }}x{{ end }}')
    assert not has_tool_round_trip("{{ .Tools }}{{ .ToolCalls }}")


@pytest.mark.parametrize("text", ["{{" * 300_000, '{{ "' + '\\"' * 300_000, "{{ `" * 200_000, "{{/*" * 200_000])
def test_hostile_templates(text: str) -> None:
    """A template that closes nothing is read in one pass."""
    assert thinking_tags(text) is None
    assert variables(text) == frozenset()
