"""The example file is the manual, so it has to be right."""

import re
from importlib import resources
from pathlib import Path

from ollamad.config.document import parse_document
from ollamad.config.example import render_example
from ollamad.config.load import load
from ollamad.config.schema import OPTIONS, Option
from ollamad.plugin._manager import PluginManager


def declared() -> dict[str, tuple[Option, ...]]:
    manager = PluginManager(load_timeout_s=30)
    manager.load()
    return {one.name: one.options for one in manager.records if one.distribution == "ollamad" and one.options}


def test_the_file_is_what_the_options_say() -> None:
    """``etc/ollamad.toml`` is generated from the options of core and built-in plugins.

    To renew it, write what `render_example` gives for the options of the loaded plugins.
    """
    text = resources.files("ollamad").joinpath("_data/etc/ollamad.toml").read_text()
    assert text == render_example(declared())


def test_its_defaults_are_the_defaults(tmp_path: Path) -> None:
    """With every key uncommented the file loads, and each value of the core is its default."""
    text = re.sub(r"^#(?=[\[a-z])", "", render_example(), flags=re.MULTILINE)
    path = tmp_path / "f.toml"
    path.write_text(text.replace("$HOME", "/h"))
    config = load(file=path, environ={"HOME": "/h"})
    for option in OPTIONS:
        setting = config.settings[option.key]
        assert setting.source == "file", option.key
        assert setting.value == load(environ={"HOME": "/h"}).settings[option.key].value, option.key


def test_it_loads_as_it_is() -> None:
    """The file as shipped sets nothing."""
    values = parse_document(render_example(), "f").values
    assert all(table == {} for table in values.values())
