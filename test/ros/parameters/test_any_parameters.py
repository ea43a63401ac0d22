"""Whatever a parameter file says: parameters, or one line that says what is wrong."""

from __future__ import annotations

import dataclasses

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crkd_ros.parameters import knobs
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.parameter_file import as_yaml, load

KNOWN = {one.name: one for one in knobs.parameters(NodeConfig, classes=["car"])}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["y", "off", "{sensor}", "<sensor>", "/", "CAM_FRONT", "auto", "none", "1e9"]),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(st.text(max_size=4), SCALARS, max_size=2),
)
NAMES = st.one_of(st.sampled_from(sorted(KNOWN)), st.text(max_size=10))


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(values=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_any_values_are_taken_as_they_are_or_refused(values, tmp_path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}), "utf-8")
    try:
        config = load(path, NodeConfig, node="detector_node")
    except ParameterError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return
    found = knobs.values(config)
    for name, value in values.items():
        # PyYAML writes a lone y as a text, rcl reads a boolean.
        if name in found and not isinstance(value, dict) and value not in [*"yYnN"]:
            assert found[name] == (tuple(value) if isinstance(value, list) else value)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    places=st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 255)), min_size=1, max_size=6)
)
def test_a_damaged_file_is_read_or_refused(places, tmp_path) -> None:
    text = bytearray(as_yaml(NodeConfig).encode())
    for place, change in places:
        text[place % len(text)] ^= change
    path = tmp_path / "node.yaml"
    path.write_bytes(bytes(text))
    try:
        config = load(path, NodeConfig, node="detector_node")
    except ParameterError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert dataclasses.is_dataclass(config)
