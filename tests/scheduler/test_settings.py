"""The scheduler's settings from the configuration's sections."""

from __future__ import annotations

from dataclasses import fields

from ollamad.config.sections import RunnerConfig, SchedulerConfig
from ollamad.scheduler.settings import from_config


def test_every_option_arrives():
    """Each option of the two sections arrives in the settings under its name."""
    scheduler = SchedulerConfig(**{f.name: number for number, f in enumerate(fields(SchedulerConfig), 100)})
    runner = RunnerConfig(**{f.name: number for number, f in enumerate(fields(RunnerConfig), 200)})
    settings = from_config(scheduler, runner, architectures={"echo": "b"}, backend="g")
    for section in (scheduler, runner):
        for field in fields(section):
            # The default context belongs to option resolution.
            if field.name != "context_length":
                name = {"kv_cache_type": "kv_type"}.get(field.name, field.name)
                assert getattr(settings, name) == getattr(section, field.name), name
    assert (settings.architectures, settings.backend) == ({"echo": "b"}, "g")
