"""The grammar of model names and of the references that requests carry.

Knows how a name is cut, checked and printed; does not know which models exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ollamad.errors import InvalidName
from ollamad.types import ModelName

DEFAULT_SCHEME = "https"
DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

#: Stands for a part that a separator promised but that is empty; never valid.
MISSING = "!MISSING!"

#: What Go's ``unicode.IsSpace`` accepts. Python's ``str.isspace`` also takes U+001C to U+001F.
SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

Part: TypeAlias = Literal["host", "namespace", "model", "tag"]
Source: TypeAlias = Literal["", "cloud", "local"]

_PARTS: dict[Part, re.Pattern[str]] = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


@dataclass(frozen=True, slots=True)
class BareName:
    """A name as written: an absent part is "", an empty part beside a separator is `MISSING`."""

    scheme: str = ""
    host: str = ""
    namespace: str = ""
    model: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a request says instead of a name: the base without its source marker, and the marker."""

    text: str
    base: str
    source: Source = ""


def parse_bare(text: str) -> BareName:
    """Cut *text* from right to left into parts, without defaults; never raises."""
    rest, tag = text, ""
    if rest.rfind(":") > rest.rfind("/"):
        rest, tag = _cut(rest, ":")
    if "/" not in rest:
        return BareName(model=rest, tag=tag)
    rest, model = _cut(rest, "/")
    if "/" not in rest:
        return BareName(namespace=rest, model=model, tag=tag)
    rest, namespace = _cut(rest, "/")
    if "://" not in rest:
        return BareName(host=rest, namespace=namespace, model=model, tag=tag)
    scheme, _, host = rest.partition("://")
    return BareName(scheme or MISSING, host or MISSING, namespace, model, tag)


def _cut(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or MISSING, after or MISSING


def parse_name(text: str) -> ModelName:
    """Parse *text* and fill absent host, namespace and tag with the defaults; never raises."""
    bare = parse_bare(text)
    return ModelName(
        host=bare.host or DEFAULT_HOST,
        namespace=bare.namespace or DEFAULT_NAMESPACE,
        model=bare.model,
        tag=bare.tag or DEFAULT_TAG,
    )


def is_valid_part(part: Part, text: str) -> bool:
    """Tell whether *text* may stand as this part of a name."""
    return _PARTS[part].fullmatch(text) is not None


def is_valid_namespace(text: str) -> bool:
    """Tell whether *text* may be a namespace, and so a user's name."""
    return is_valid_part("namespace", text)


def is_valid(name: ModelName | BareName) -> bool:
    """Tell whether all four parts are present and allowed."""
    return (
        is_valid_part("host", name.host)
        and is_valid_part("namespace", name.namespace)
        and is_valid_part("model", name.model)
        and is_valid_part("tag", name.tag)
    )


def full(name: ModelName | BareName) -> str:
    """Print ``host/namespace/model:tag``; absent parts are left out."""
    parts = [part for part in (name.host, name.namespace) if part]
    tag = f":{name.tag}" if name.tag else ""
    return "/".join([*parts, name.model]) + tag


def short(name: ModelName) -> str:
    """Print the shortest form; the tag always stands."""
    if name.host.lower() != DEFAULT_HOST:
        return full(name)
    if name.namespace.lower() != DEFAULT_NAMESPACE:
        return f"{name.namespace}/{name.model}:{name.tag}"
    return f"{name.model}:{name.tag}"


def relative_path(name: ModelName) -> str:
    """Return ``host/namespace/model/tag``, the path below ``manifests/``.

    Raises:
        InvalidName: The name is not fully qualified.
    """
    require_valid(name)
    return "/".join((name.host, name.namespace, name.model, name.tag))


def from_relative_path(path: str) -> ModelName | None:
    """Return the name whose manifest is at *path* below ``manifests/``, None if there can be none."""
    parts = path.split("/")
    if len(parts) != 4:
        return None
    name = ModelName(*parts)
    return name if is_valid(name) else None


def fold(name: ModelName) -> ModelName:
    """Return the form in which names are compared: letter case does not count."""
    return ModelName(name.host.lower(), name.namespace.lower(), name.model.lower(), name.tag.lower())


def require_valid(name: ModelName, text: str = "") -> ModelName:
    """Return *name* if it is fully qualified.

    Raises:
        InvalidName: ``unqualified name: `` and the full form of what was parsed.
    """
    if not is_valid(name):
        raise InvalidName(text or full(name), f"unqualified name: {full(name)}")
    return name


def has_explicit_tag(text: str) -> bool:
    """Tell whether *text* names a tag: its last ``:`` lies after its last ``/``."""
    return text.rfind(":") > text.rfind("/")


def parse_reference(text: str) -> Reference:
    """Take the source marker off a reference.

    Raises:
        InvalidName: Empty (``model is required``) or marked twice. The base itself is not checked.
    """
    trimmed = text.strip(SPACE)
    if not trimmed:
        raise InvalidName(text, "model is required")
    base, source = _take_marker(trimmed)
    if source and _take_marker(base)[1]:
        raise InvalidName(text, f'use either :local or :cloud, not both: "{trimmed}"')
    return Reference(text, base, source)


def _take_marker(text: str) -> tuple[str, Source]:
    base, colon, suffix = text.rpartition(":")
    if not colon:
        return text, ""
    folded = suffix.lower()
    if folded == "cloud":
        return base, "cloud"
    if folded == "local":
        return base, "local"
    if "/" not in suffix and folded.endswith("-cloud"):
        return text[: -len("-cloud")], "cloud"
    return text, ""


def reference_name(reference: Reference) -> ModelName:
    """Return the name that a reference's base stands for.

    Raises:
        InvalidName: ``unqualified name: …``.
    """
    return require_valid(parse_name(reference.base), reference.text)


def stored_text(reference: Reference) -> str:
    """Return the text under which pull and delete know the model: cloud markers come back as part of the tag."""
    if reference.source != "cloud":
        return reference.base
    return f"{reference.base}-cloud" if has_explicit_tag(reference.base) else f"{reference.base}:cloud"


def strip_cloud(text: str) -> tuple[str, bool]:
    """Take a cloud marker off *text*; the flag tells whether there was one."""
    base, source = _take_marker(text.strip(SPACE))
    return (base, True) if source == "cloud" else (text, False)
