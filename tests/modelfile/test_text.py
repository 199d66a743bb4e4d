"""The text of Modelfiles. Ids are those of the models contract, appendix E."""

from __future__ import annotations

import pytest

from ollamad.modelfile import Command, ModelfileError, dump, parse

MODEL = Command("model", "foo")


def commands(*pairs: tuple[str, str]) -> tuple[Command, ...]:
    return tuple(Command(name, argument) for name, argument in pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('FROM "FOO  BAR  "', [("model", "FOO  BAR  ")], id="E1.1"),
        pytest.param(
            'FROM "FOO BAR"\nPARAMETER param1 value1', [("model", "FOO BAR"), ("param1", "value1")], id="E1.2"
        ),
        pytest.param("FROM     FOOO BAR    \n", [("model", "FOOO BAR")], id="E1.3"),
        pytest.param("FROM /what/is/the path \n", [("model", "/what/is/the path")], id="E1.4"),
        pytest.param("FROM foo", [("model", "foo")], id="E1.5"),
        pytest.param("FROM /path/to/model", [("model", "/path/to/model")], id="E1.6"),
        pytest.param("FROM /path/to/model/fp16.bin", [("model", "/path/to/model/fp16.bin")], id="E1.7"),
        pytest.param("FROM llama3:latest", [("model", "llama3:latest")], id="E1.8"),
        pytest.param("FROM llama3:7b-instruct-q4_K_M", [("model", "llama3:7b-instruct-q4_K_M")], id="E1.9"),
        pytest.param("PARAMETER param1 value1\nFROM foo", [("param1", "value1"), ("model", "foo")], id="E1.12"),
        pytest.param(
            "PARAMETER what the \nFROM lemons make lemonade",
            [("what", "the"), ("model", "lemons make lemonade")],
            id="E1.13",
        ),
        pytest.param("\nFROM foo\nRENDERER renderer1\n", [("model", "foo"), ("renderer", "renderer1")], id="E1.16"),
        pytest.param("\nFROM foo\nPARSER parser1\n", [("model", "foo"), ("parser", "parser1")], id="E1.17"),
        pytest.param("\nFROM base\nDRAFT ./assistant\n", [("model", "base"), ("draft", "./assistant")], id="E1.18"),
        pytest.param("\n# comment\nFROM foo\n", [("model", "foo")], id="E1.19"),
        pytest.param("from foo\npArAmEtEr x 1", [("model", "foo"), ("x", "1")], id="E1.20"),
        pytest.param("FROM foo # bar", [("model", "foo # bar")], id="E1.21"),
        pytest.param("FROM foo\nPARAMETER  temperature 1", [("model", "foo"), ("", "temperature 1")], id="E1.23"),
        pytest.param('FROM "     model 1"', [("model", "     model 1")], id="E2-from"),
        pytest.param("FROM foo\nADAPTER      adapter3", [("model", "foo"), ("adapter", "adapter3")], id="E2-adapter"),
        pytest.param('FROM foo\nLICENSE "MIT       "', [("model", "foo"), ("license", "MIT       ")], id="E2-license"),
        pytest.param(
            "FROM foo\nPARAMETER param1        value1", [("model", "foo"), ("param1", "value1")], id="E2-param"
        ),
        pytest.param(
            'FROM foo\nTEMPLATE """   {{ if .System }}\n{{ .System }}\n   """',
            [("model", "foo"), ("template", "   {{ if .System }}\n{{ .System }}\n   ")],
            id="E2-template",
        ),
    ],
)
def test_commands(text: str, expected: list[tuple[str, str]]) -> None:
    """Each command is read with its argument trimmed outside quotes only."""
    assert parse(text) == commands(*expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no FROM line", id="E1.10"),
        pytest.param("PARAMETER param1 value1", "no FROM line", id="E1.11"),
        pytest.param("\nFROM foo\nPARAMETER param1\n", "unexpected EOF: param1", id="E1.14"),
        pytest.param("\nFROM foo\nBADCOMMAND param1 value1\n", "(line 3): command must be one of", id="E1.15"),
        pytest.param("FROM\nFROM foo", "(line 2): command must be one of", id="E1.22"),
        pytest.param(
            "\nFROM foo\nMESSAGE badguy I'm a bad guy!",
            '(line 3): message role must be one of "system", "user", or "assistant"',
            id="E4-role",
        ),
        pytest.param("FROM foo\nMESSAGE system\n", "unexpected EOF", id="E4-newline"),
        pytest.param("FROM foo\nMESSAGE system", "unexpected EOF", id="E4-end"),
        pytest.param('FROM foo\nSYSTEM """This is a multiline system.""', "unexpected EOF", id="E5-two-quotes"),
        pytest.param('FROM foo\nSYSTEM "', "unexpected EOF", id="E5-one-quote"),
        pytest.param('FROM foo\nSYSTEM "a" b', "unexpected EOF", id="text-after-the-quote"),
        pytest.param("FROM foo\r\nBAD x", "(line 3): command must be one of", id="crlf-counts-twice"),
    ],
)
def test_errors(text: str, message: str) -> None:
    """What cannot be read is refused, with the line where there is one to blame."""
    with pytest.raises(ModelfileError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_words_are_listed() -> None:
    """An unknown command is answered with the whole list of known ones."""
    with pytest.raises(ModelfileError) as caught:
        parse("FROM foo\nBAD x")
    assert str(caught.value) == (
        '(line 2): command must be one of "from", "license", "template", "system", "adapter", "draft", '
        '"renderer", "parser", "parameter", "message", or "requires"'
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((f"{name} {value}", value) for name, value in [("numa", "true"), ("num_ctx", "1"), ("top_p", "1.0")]),
        ("penalize_newline true", "true"),
        ("stop ### User:", "### User:"),
        ("stop ### User: \n", "### User:"),
        ('stop "### User:"', "### User:"),
        ('stop "### User: "', "### User: "),
        ('stop """### User:"""', "### User:"),
        ('stop """### User:\n"""', "### User:\n"),
        ("stop <|endoftext|>", "<|endoftext|>"),
        ("stop <|eot_id|>", "<|eot_id|>"),
        ("stop </s>", "</s>"),
    ],
)
def test_parameter_values(text: str, value: str) -> None:
    """E3: a parameter keeps its text."""
    assert parse(f"FROM foo\nPARAMETER {text}") == (MODEL, Command(text.split()[0], value))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (
            "MESSAGE system You are a file parser. Always parse things.\n",
            ["system: You are a file parser. Always parse things."],
        ),
        (
            "MESSAGE system You are a file parser. Always parse things.",
            ["system: You are a file parser. Always parse things."],
        ),
        (
            "MESSAGE system You are a file parser.\nMESSAGE user Hey there!\nMESSAGE assistant Hello, I want to parse!",
            ["system: You are a file parser.", "user: Hey there!", "assistant: Hello, I want to parse!"],
        ),
        (
            'MESSAGE system """\nYou are a multiline file parser. Always parse things.\n"""',
            ["system: \nYou are a multiline file parser. Always parse things.\n"],
        ),
    ],
)
def test_messages(text: str, values: list[str]) -> None:
    """E4: a message is its role and its text, in order."""
    assert parse(f"FROM foo\n{text}") == (MODEL, *commands(*(("message", value) for value in values)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"""\nThis is a\nmultiline system.\n"""', "\nThis is a\nmultiline system.\n"),
        ('"""\nThis is a\nmultiline system."""', "\nThis is a\nmultiline system."),
        ('"""This is a\nmultiline system."""', "This is a\nmultiline system."),
        ('"""This is a multiline system."""', "This is a multiline system."),
        (
            '"""\nThis is a multiline system with "quotes".\n"""',
            '\nThis is a multiline system with "quotes".\n',
        ),
        ('""""""', ""),
        ('""', ""),
        ('"\'"', "'"),
        ('"""\'\'"\'""\'""\'"\'\'\'\'\'""\'""\'"""', "''\"'\"\"'\"\"'\"'''''\"\"'\"\"'"),
    ],
)
def test_quoting(text: str, value: str) -> None:
    """E5: what lies between the quotes is kept as it is."""
    assert parse(f"FROM foo\nSYSTEM {text}") == (MODEL, Command("system", value))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "FROM bob\nPARAMETER param1 1\nPARAMETER param2 4096\nSYSTEM You are a utf16 file.\n",
            [("model", "bob"), ("param1", "1"), ("param2", "4096"), ("system", "You are a utf16 file.")],
        ),
        ("FROM test\nSYSTEM 你好👋", [("model", "test"), ("system", "你好👋")]),
    ],
)
def test_encodings(text: str, expected: list[tuple[str, str]], encoding: str) -> None:
    """E6: a byte order mark says how the file is written, and is dropped."""
    data = text.encode(encoding) if encoding == "utf-8-sig" else f"\ufeff{text}".encode(encoding)
    assert parse(data) == commands(*expected)


def test_unprintable_characters_go() -> None:
    """A value keeps what Go calls printable: no control characters, no joiners, no odd blanks."""
    assert parse("FROM foo\nSYSTEM a\x07b\u00a0c\u200dd\ufeffe\tf") == (MODEL, Command("system", "abcde\tf"))


@pytest.mark.parametrize(
    "text",
    [
        'FROM foo\nADAPTER adapter1\nLICENSE MIT\nPARAMETER param1 value1\nPARAMETER param2 value2\nTEMPLATE """{{ if'
        ' .System }}{{ .System }}{{ end }}"""\nMESSAGE system You are a file parser.\nMESSAGE user Hey there!\n'
        "MESSAGE assistant Hello, I want to parse all the things!\n",
        'FROM foo\nMESSAGE system """\nYou greet in a "store". Always say "Hello!".\n"""\nMESSAGE user Hey\n',
        'FROM foo\nLICENSE """\nThis is a\nlicense with "quotes".\n"""\nPARAMETER a b\n',
        'FROM foo\nSYSTEM ""\n',
        "FROM base\nDRAFT ./assistant\nREQUIRES 0.14.0\n",
    ],
    ids=["everything", "multi-line-message", "multi-line-license", "empty-system", "draft"],
)
def test_printing_round_trip(text: str) -> None:
    """E7: what is printed reads back as the same commands."""
    read = parse(text)
    assert parse(dump(read)) == read


def test_printed_forms() -> None:
    """A value is quoted only where its edges or lines would be lost."""
    printed = dump(
        commands(
            ("model", " x "), ("system", " a"), ("license", 'a\n"b"'), ("message", "user: hi: you"), ("stop", "a b")
        )
    )
    assert printed == 'FROM  x \nSYSTEM " a"\nLICENSE """a\n"b""""\nMESSAGE user hi: you\nPARAMETER stop a b\n'
