"""YAML of a plain size, or one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.config import ConfigError
from crkd_core.config.yaml_text import load_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)


def test_plain_data():
    assert load_yaml("a: &x {b: [1, 2.5]}\nc: *x") == {"a": {"b": [1, 2.5]}, "c": {"b": [1, 2.5]}}
    assert load_yaml(b"1e-3: x") == {"1e-3": "x"}
    assert load_yaml("") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "expected at most 100000 values"),
        ("&a [*a]", "a value that holds itself"),
        ("&a {x: *a}", "a value that holds itself"),
        ("[" * 50_000, "brackets in brackets without end"),
        ("{a: " * 5_000 + "}" * 5_000, "brackets in brackets without end"),
        (b"\x00\x01\xff\xfe", "expected YAML, got"),
        ("a: b: c", "expected YAML, got"),
        ("!!python/object/apply:os.system [echo]", "expected YAML, got"),
        ("a\n" * 600_000, "expected at most 1048576 bytes of YAML"),
        ("? [a]\n: b", "expected YAML, got"),
    ],
)
def test_what_is_none_is_refused_in_a_line(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.one_of(st.binary(max_size=60), st.text(alphabet="ab:-[]{}&*!?|> \n\t'\"0.", max_size=60))
)
def test_any_text_is_data_or_refused(text):
    try:
        load_yaml(text)
    except ConfigError as error:
        assert "\n" not in str(error)
