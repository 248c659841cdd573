"""JSON that a person typed: what is read, and the sentence for what is not."""

from __future__ import annotations

import pytest

from taskcontrol.exceptions import InvalidCall
from taskcontrol.givenjson import given_json
from tests.admin.conftest import NONSENSE_IN_JSON

FAULTS = [
    ("{", "no JSON: .* in line 1, column 2"),
    ("NaN", "NaN cannot be written"),
    ('{"a": -Infinity}', "-Infinity cannot be written"),
    ("1e400", "too large for a float"),
    ("9" * 5000, "more digits than Python reads"),
    ("[" * 2000 + "]" * 2000, "nested too deeply"),
    ("[" * 102 + "]" * 102, "nested too deeply"),
    ("[" * 100_000, "nested too deeply"),
    ('["\\ud800"]', r"\\ud800 is half of a character"),
    ('{"\\udfff": 1}', r"\\udfff is half of a character"),
]


@pytest.mark.parametrize(("text", "why"), FAULTS)
def test_what_nobody_could_keep_or_show_is_refused_in_a_sentence(text, why):
    with pytest.raises(InvalidCall, match=why):
        given_json(text)


def test_the_forms_are_tried_with_each_kind_of_nonsense():
    for text in NONSENSE_IN_JSON:
        with pytest.raises(InvalidCall):
            given_json(text)


@pytest.mark.parametrize(
    "text", ["12", '"\\ud83d\\ude00"', "[" * 100 + "]" * 100, "9" * 4300]
)
def test_what_can_be_kept_is_read(text):
    assert given_json(text) is not None
