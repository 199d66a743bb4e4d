"""The comparison of recorded answers sees what it must see."""

import time

import pytest
from recorded.template import Known, Mismatch, compare, fits


def known() -> Known:
    return Known(at=time.time())


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1}', '{"a": 1}'),
        ('{"a":1}\n', '{"a":1}'),
        ('{"a":"\\u003c"}', '{"a":"<"}'),
        ('{"a":1}', '{"a":1,"b":2}'),
        ('{"t":⟦now⟧}', '{"t":"2020-01-01T00:00:00Z"}'),
        ('{"t":⟦past⟧}', '{"t":"2999-01-01T00:00:00Z"}'),
        ('{"t":⟦past⟧}', '{"t":"2020-01-01T00:00:00.10Z"}'),
        ('{"t":⟦expires 300⟧}', '{"t":"2020-01-01T00:00:00Z"}'),
        ('{"t":⟦never⟧}', '{"t":"2027-01-01T00:00:00Z"}'),
        ('{"n":⟦ns⟧}', '{"n":0}'),
        ('{"n":⟦ns⟧}', '{"n":3600000000001}'),
        ('{"n":⟦positive⟧}', '{"n":0}'),
        ('{"n":⟦natural⟧}', '{"n":-1}'),
        ('{"s":⟦text⟧}', '{"s":""}'),
        ('{"s":⟦text⟧}', '{"s":7}'),
        ('{"s":⟦hex64⟧}', '{"s":"abc"}'),
        ('{"s":⟦version⟧}', '{"s":"new"}'),
        ('{"s":⟦file⟧}', '{"s":"other"}'),
        ('{"s":⟦lines "a\\nb"⟧}', '{"s":"a\\nc"}'),
        ('{"s":⟦modelfile "FROM x\\nPARAMETER a 1"⟧}', '{"s":"PARAMETER a 1\\nFROM x"}'),
        ("[⟦same k#1⟧,⟦same k#1⟧]", '["a","b"]'),
        ("[⟦same k#1⟧,⟦same k#2⟧]", '["a","a"]'),
        ('{"response":⟦part response⟧}', '{"response":""}'),
    ],
)
def test_a_difference_is_seen(template: str, text: str) -> None:
    """Values, order of keys, spelling and the form of what may differ all count."""
    with pytest.raises(Mismatch):
        compare(template, text, known())


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{"n":⟦ns⟧,"v":⟦version⟧}', '{"n":12,"v":"0.1.0"}'),
        ('{"t":⟦never⟧}', '{"t":"2318-01-01T00:00:00Z"}'),
        ('{"s":⟦lines "a\\nb"⟧}', '{"s":"b\\na"}'),
        (
            '{"s":⟦modelfile "FROM x\\nPARAMETER a 1\\nPARAMETER b 2"⟧}',
            '{"s":"FROM x\\nPARAMETER b 2\\nPARAMETER a 1"}',
        ),
        ("[⟦same k#1⟧,⟦same k#2⟧,⟦same k#1⟧]", '["a","b","a"]'),
        ('{"x":⟦any⟧}', '{"x":{"y":[1,2]}}'),
    ],
)
def test_what_may_differ_does(template: str, text: str) -> None:
    """A hole takes every value of its form."""
    assert fits(template, text)
    compare(template, text, known())
