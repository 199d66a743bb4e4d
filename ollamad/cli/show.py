"""`ollamactl show`: what a model is, in sections. Source: runtime contract, show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ollamad.cli.format import go_number, human_number
from ollamad.cli.table import display_width, render

Rows = list[list[str]]


def sections(answer: Mapping[str, Any], *, verbose: bool = False) -> str:
    """The whole text for an answer of `/api/show`."""
    info: Mapping[str, Any] = answer.get("model_info") or {}
    parts = [_section("Model", _model(answer, info))]
    if answer.get("capabilities"):
        parts.append(_section("Capabilities", [[one] for one in answer["capabilities"]]))
    if answer.get("projector_info"):
        parts.append(_section("Projector", _projector(answer["projector_info"])))
    if answer.get("parameters"):
        lines = [line.split() for line in answer["parameters"].split("\n")]
        parts.append(_section("Parameters", [line for line in lines if line]))
    if verbose and info:
        parts.append(_section("Metadata", [[key, metadata_value(info[key])] for key in sorted(info)]))
    if verbose and answer.get("tensors"):
        parts.append(_section("Tensors", [_tensor(one) for one in answer["tensors"]]))
    for title in ("System", "License"):
        if answer.get(title.lower()):
            parts.append(_section(title, [[line] for line in _head(answer[title.lower()])], 100))
    return "".join(parts)


def _section(title: str, rows: Rows, limit: int = 30) -> str:
    return f"  {title}\n{render([], [['', *row] for row in rows], limit)}\n"


def _model(answer: Mapping[str, Any], info: Mapping[str, Any]) -> Rows:
    details: Mapping[str, Any] = answer.get("details") or {}
    rows: Rows = []
    if answer.get("remote_host"):
        rows += [["Remote model", str(answer.get("remote_model", ""))], ["Remote URL", str(answer["remote_host"])]]
    size = details.get("parameter_size", "")
    if info:
        architecture = info.get("general.architecture", "")
        rows += [["architecture", architecture]] if architecture else []
        count = int(info.get("general.parameter_count") or 0)
        if size or count:
            rows.append(["parameters", size or human_number(count)])
        for title, key in (("context length", "context_length"), ("embedding length", "embedding_length")):
            if (value := info.get(f"{architecture}.{key}")) is not None:
                rows.append([title, str(int(value))])
    else:
        rows += [["architecture", details.get("family", "")], ["parameters", size]]
    rows.append(["quantization", details.get("quantization_level", "")])
    return rows + ([["requires", answer["requires"]]] if answer.get("requires") else [])


def _projector(info: Mapping[str, Any]) -> Rows:
    architecture = info.get("general.architecture", "")
    rows: Rows = [["architecture", architecture]] if architecture else []
    if "general.parameter_count" in info:
        rows.append(["parameters", human_number(int(info["general.parameter_count"]))])
    for title, key in (("embedding length", "embedding_length"), ("dimensions", "projection_dim")):
        for kind in ("vision", "audio"):
            if (value := info.get(f"{architecture}.{kind}.{key}")) is not None:
                rows.append([title, go_number(value)])
                break
    return rows


def _tensor(tensor: Mapping[str, Any]) -> list[str]:
    shape = " ".join(str(size) for size in tensor.get("shape", ()))
    return [str(tensor.get("name", "")), str(tensor.get("type", "")), f"[{shape}]"]


def _head(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[:2] + (["..."] if len(lines) > 2 else [])


def metadata_value(value: Any) -> str:
    """One value of ``model_info`` in a cell; a list shows what fits into ten columns."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return go_number(value)
    if isinstance(value, list):
        return _list_value([metadata_value(one) for one in value])
    return "<nil>" if value is None else str(value)


def _list_value(items: Iterable[str]) -> str:
    shown: list[str] = []
    items, width = list(items), 1
    for item in items:
        width += display_width(item) + (2 if shown else 0)
        if shown and width > 10:
            break
        shown.append(item)
    rest = len(items) - len(shown)
    return f"[{' '.join(shown)}" + (f" ...+{rest} more]" if rest else "]")
