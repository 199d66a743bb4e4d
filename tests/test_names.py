"""Names and references, case by case as the contract lists them (models contract A and B, HTTP contract A.4)."""

import pytest

from ollamad import names
from ollamad.errors import InvalidName
from ollamad.names import BareName
from ollamad.types import ModelName

P80 = "8" * 80
H350 = "3" * 350
DEFAULTS = ("registry.ollama.ai", "library")


@pytest.mark.parametrize(
    ("text", "bare", "path"),
    [
        pytest.param(
            "registry.ollama.ai/library/dolphin-mistral:7b-v2.6-dpo-laser-q6_K",
            BareName("", "registry.ollama.ai", "library", "dolphin-mistral", "7b-v2.6-dpo-laser-q6_K"),
            "registry.ollama.ai/library/dolphin-mistral/7b-v2.6-dpo-laser-q6_K",
            id="A1.1",
        ),
        pytest.param(
            "scheme://host:port/namespace/model:tag",
            BareName("scheme", "host:port", "namespace", "model", "tag"),
            "host:port/namespace/model/tag",
            id="A1.2",
        ),
        pytest.param(
            "host/namespace/model:tag",
            BareName("", "host", "namespace", "model", "tag"),
            "host/namespace/model/tag",
            id="A1.3",
        ),
        pytest.param(
            "host:port/namespace/model:tag",
            BareName("", "host:port", "namespace", "model", "tag"),
            "host:port/namespace/model/tag",
            id="A1.4",
        ),
        pytest.param(
            "host/namespace/model",
            BareName("", "host", "namespace", "model", ""),
            "host/namespace/model/latest",
            id="A1.5",
        ),
        pytest.param(
            "host:port/namespace/model",
            BareName("", "host:port", "namespace", "model", ""),
            "host:port/namespace/model/latest",
            id="A1.6",
        ),
        pytest.param(
            "namespace/model",
            BareName("", "", "namespace", "model", ""),
            "registry.ollama.ai/namespace/model/latest",
            id="A1.7",
        ),
        pytest.param("model", BareName("", "", "", "model", ""), "registry.ollama.ai/library/model/latest", id="A1.8"),
        pytest.param("h/nn/mm:t", BareName("", "h", "nn", "mm", "t"), "h/nn/mm/t", id="A1.9"),
        pytest.param(
            f"{P80}/{P80}/{P80}:{P80}", BareName("", P80, P80, P80, P80), f"{P80}/{P80}/{P80}/{P80}", id="A1.10"
        ),
        pytest.param(
            f"{H350}/{P80}/{P80}:{P80}", BareName("", H350, P80, P80, P80), f"{H350}/{P80}/{P80}/{P80}", id="A1.11"
        ),
    ],
)
def test_a_name_is_cut_from_right_to_left(text: str, bare: BareName, path: str) -> None:
    """The bare parse finds the parts; the defaults complete the path."""
    assert names.parse_bare(text) == bare
    assert names.relative_path(names.parse_name(text)) == path


def test_full_form_after_defaults() -> None:
    """A1.12, NA-01: printed in full, a bare model carries all defaults."""
    assert names.full(names.parse_name("xx")) == "registry.ollama.ai/library/xx:latest"


VALID = [
    "_why/_the/_lucky:_stiff",
    "h/n/m:t",
    "host/namespace/model:tag",
    f"{P80}/{P80}/{P80}:{P80}",
    f"{H350}/{P80}/{P80}:{P80}",
    "h/nn/mm:t",
    "host:https/namespace/model:tag",
]
INCOMPLETE = ["", "host/namespace/model", "namespace/model", "model", "m", "h/n/m"]
INVALID = [
    *("n/m:", "@t", "m@d", "^", "mm:", "/nn/mm", "//", "//mm", "hh//", "//mm:@", "00@", "@"),
    *("-hh/nn/mm:tt", "hh/-nn/mm:tt", "hh/nn/-mm:tt", "hh/nn/mm:-tt", "host/name:space/model:tag"),
    *("m:", "h//m", "a b", "mod\nel", "model\n", "ünïcode", "..", "h/../m:t", f"{P80}8", f"m:{P80}8"),
    *(f"{H350}3/n/m", ":t", "://n/m:t", "scheme:///n/m:t", "a.b/m"),
]


@pytest.mark.parametrize("text", VALID)
def test_valid_names_print_back(text: str) -> None:
    """A2, NA-05 to NA-07: a valid bare name prints back to itself."""
    assert names.is_valid(names.parse_bare(text))
    assert names.full(names.parse_name(text)) == text


@pytest.mark.parametrize("text", [*INCOMPLETE, *INVALID])
def test_invalid_bare_names(text: str) -> None:
    """A2, NA-08 to NA-12: all four parts have to be present and allowed."""
    assert not names.is_valid(names.parse_bare(text))


@pytest.mark.parametrize("text", ["", *INVALID])
def test_defaults_do_not_heal_a_bad_part(text: str) -> None:
    """What is wrong stays wrong after the defaults are filled in, and has no path."""
    name = names.parse_name(text)
    assert not names.is_valid(name)
    with pytest.raises(InvalidName, match=r"^unqualified name: "):
        names.relative_path(name)


def test_an_empty_part_is_named() -> None:
    """The error for a promised part that is empty prints its placeholder."""
    with pytest.raises(InvalidName) as caught:
        names.require_valid(names.parse_name("m:"))
    assert str(caught.value) == "unqualified name: registry.ollama.ai/library/m:!MISSING!"


@pytest.mark.parametrize(
    ("part", "text", "valid"),
    [
        ("host", "", False),
        ("host", "a", True),
        ("host", "a.", True),
        ("host", "a.b", True),
        ("host", "a:123", True),
        ("host", "a:123/aa/bb", False),
        ("namespace", "bb", True),
        ("namespace", "a.", False),
        ("model", "-h", False),
        ("tag", "v1.0_x-y", True),
    ],
)
def test_parts(part: names.Part, text: str, valid: bool) -> None:
    """A3, NA-13, NA-14: each part has its own alphabet."""
    assert names.is_valid_part(part, text) is valid


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("host/namespace/model/tag", "host/namespace/model:tag"),
        ("host:port/namespace/model/tag", "host:port/namespace/model:tag"),
        ("namespace/model/tag", None),
        ("model/tag", None),
        ("model", None),
        ("../../model/tag", None),
        ("/namespace/./tag", None),
        ("./././.", None),
        ("/path/to/random/file", None),
        ("host/namespace/model/.hidden", None),
    ],
)
def test_names_from_paths(path: str, text: str | None) -> None:
    """A4: exactly four valid elements are a name."""
    name = names.from_relative_path(path)
    assert (name and names.full(name)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("registry.ollama.ai/library/model:latest", "model:latest"),
        ("registry.ollama.ai/library/model:tag", "model:tag"),
        ("Registry.Ollama.AI/Library/model:tag", "model:tag"),
        ("registry.ollama.ai/namespace/model:tag", "namespace/model:tag"),
        ("host/namespace/model:tag", "host/namespace/model:tag"),
        ("host/library/model:tag", "host/library/model:tag"),
    ],
)
def test_shortest_form(text: str, shown: str) -> None:
    """A5, NA-15 to NA-17: only defaults are left out, and never the tag."""
    assert names.short(names.parse_name(text)) == shown


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("a", True),
        ("himynameisjoe", True),
        ("himynameisreallyreallyreallyreallylongbutitshouldstillbevalid", True),
        *((bad, False) for bad in ("", "a:b", "a/b", "a:b/c", "a/b:c", "a/b:c/d", "a/b:c/d@e", "a/b:c/d@sha256-100")),
    ],
)
def test_namespace_alone(text: str, valid: bool) -> None:
    """A6: a user's name follows the namespace's row."""
    assert names.is_valid_namespace(text) is valid


def test_fold() -> None:
    """Names that differ by letter case alone fold to one."""
    assert names.fold(ModelName("H", "N", "M", "T")) == ModelName("h", "n", "m", "t")


@pytest.mark.parametrize(
    ("text", "base", "source"),
    [
        ("gpt-oss:20b:cloud", "gpt-oss:20b", "cloud"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b", "cloud"),
        ("gpt-oss:20b:CLOUD", "gpt-oss:20b", "cloud"),
        ("qwen3:8b:local", "qwen3:8b", "local"),
        ("llama3.2", "llama3.2", ""),
        ("my-cloud-model", "my-cloud-model", ""),
        ("gpt-oss:clod", "gpt-oss:clod", ""),
        ("foo:bar-cloud/baz", "foo:bar-cloud/baz", ""),
        ("  llama3.2\u2003\n", "llama3.2", ""),
        ("\x1cllama3.2", "\x1cllama3.2", ""),
    ],
)
def test_source_markers(text: str, base: str, source: str) -> None:
    """B1, NA-18 to NA-22: a reference is trimmed and gives up its marker."""
    reference = names.parse_reference(text)
    assert (reference.base, reference.source, reference.text) == (base, source, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo:cloud:local", 'use either :local or :cloud, not both: "foo:cloud:local"'),
        ("foo:x-cloud:local", 'use either :local or :cloud, not both: "foo:x-cloud:local"'),
        ("   ", "model is required"),
        ("", "model is required"),
    ],
)
def test_references_that_are_none(text: str, message: str) -> None:
    """B1, NA-23, NA-24: two markers contradict each other, blanks are no reference."""
    with pytest.raises(InvalidName) as caught:
        names.parse_reference(text)
    assert str(caught.value) == message
    assert caught.value.name == text


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest"),
        ("gpt-oss:20b:cloud", "registry.ollama.ai/library/gpt-oss:20b"),
    ],
)
def test_name_of_a_reference(text: str, full: str) -> None:
    """B1: what is left of a reference is a name with defaults."""
    assert names.full(names.reference_name(names.parse_reference(text))) == full


def test_unqualified_reference() -> None:
    """B1: a marker alone leaves no name."""
    with pytest.raises(InvalidName, match=r"^unqualified name: "):
        names.reference_name(names.parse_reference("::cloud"))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("gpt-oss:20b:local", "gpt-oss:20b"),
        ("gpt-oss:20b:cloud", "gpt-oss:20b-cloud"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud"),
        ("qwen3:cloud", "qwen3:cloud"),
        ("localhost:11434/library/foo:cloud", "localhost:11434/library/foo:cloud"),
    ],
)
def test_stored_text_of_a_reference(text: str, stored: str) -> None:
    """B2, NA-25 to NA-28: pull and delete put the cloud marker back into the tag."""
    assert names.stored_text(names.parse_reference(text)) == stored


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        ("some-model", False),
        ("some-model:9b", True),
        ("some-model:latest", True),
        ("user/some-model", False),
        ("user/some-model:9b", True),
        ("registry.example.com:5000/some-model", False),
        ("registry.example.com:5000/some-model:9b", True),
    ],
)
def test_explicit_tags(text: str, explicit: bool) -> None:
    """B3, NA-30: a port is no tag."""
    assert names.has_explicit_tag(text) is explicit


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("gpt-oss:20b:cloud", ("gpt-oss:20b", True)),
        ("gpt-oss:20b-cloud", ("gpt-oss:20b", True)),
        *((text, (text, False)) for text in ("qwen3:8b:local", "llama3.2", "my-cloud-model", "foo:bar-cloud/baz")),
    ],
)
def test_stripping_the_cloud_marker(text: str, stripped: tuple[str, bool]) -> None:
    """B4: only a cloud marker comes off."""
    assert names.strip_cloud(text) == stripped
