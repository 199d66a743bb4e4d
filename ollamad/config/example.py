"""The example file: every key commented out, with default, unit, limits, variable and when a change acts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ollamad.config.schema import LISTENER, MODEL, OPTIONS, Option
from ollamad.config.text import value_text

_HEAD = """\
# The configuration of ollamad. Every key is here, commented out, with its default.
#
# Read from the file that --config or $OLLAMAD_CONFIG names, else from /etc/ollamad/ollamad.toml.
# Order: defaults < this file < environment < command line. `ollamactl config show` prints each value with
# its source. An unknown key or a wrong value keeps the daemon from starting, and it says where.
"""

_SECTIONS = {
    "server": "Where the daemon listens (the listener 'default'), and the limits of every listener.",
    "store": "Where models lie.",
    "scheduler": "How many models are loaded, for how long, and who waits.",
    "runner": "How a model is loaded.",
    "plugins": "Which plugins are loaded.",
    "logging": "What is logged.",
}


def render_example(plugins: Mapping[str, Sequence[Option]] | None = None) -> str:
    """The text of ``etc/ollamad.toml``; *plugins* are the options of the plugins that come with ollamad."""
    parts = [_HEAD]
    for section, about in _SECTIONS.items():
        options = [option for option in OPTIONS if option.key.startswith(f"{section}.")]
        parts.append(_table(f"[{section}]", about, options))
    parts.append(_table('#[listeners."NAME"]', "A further TCP listener, as often as needed.", LISTENER))
    about = "What holds for one model; wins over its Modelfile, loses against the request."
    model = _table('#[models."NAME"]', about, MODEL)
    parts.append(f'{model}\n# Parameters as in a Modelfile.\n#[models."NAME".parameters]\n#temperature = 0.8\n')
    for plugin, declared in (plugins or {}).items():
        parts.append(_table(f"#[plugins.{plugin}]", f"Options of the plugin {plugin}.", declared))
    return "\n".join(parts)


def _table(header: str, about: str, options: Iterable[Option]) -> str:
    lines = [f"# {about}", header]
    for option in options:
        lines += ["", *_facts(option), f"#{option.key.rpartition('.')[2]} = {value_text(option, option.default)}"]
    return "\n".join(lines) + "\n"


def _facts(option: Option) -> list[str]:
    facts = [option.help]
    if option.unit:
        facts.append(f"Unit: {option.unit}.")
    if option.minimum is not None and option.maximum is not None:
        facts.append(f"From {option.minimum:.15g} to {option.maximum:.15g}.")
    if option.choices:
        facts.append(f"One of: {', '.join(option.choices)}.")
    if option.variable:
        facts.append(f"Variable: {option.variable}.")
    facts.append(
        {"at once": "Acts at once.", "next load": "Acts on the next load.", "restart": "Acts after a restart."}[
            option.applies
        ]
    )
    return textwrap.wrap(" ".join(facts), 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
