"""Parameter files without ROS: read as rcl reads them, and errors that name the file."""

from __future__ import annotations

import array
import contextlib

import pytest
import yaml

from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.parameter_file import as_yaml, given, load, load_all


def read(path, text):
    path.write_text(text)
    return load(path, NodeConfig, node="detector_node")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "node.yaml"


def test_the_shipped_file_is_the_defaults(path):
    assert read(path, as_yaml(NodeConfig)) == NodeConfig()


def test_sections_of_all_nodes_and_of_the_node_count_and_later_ones_win(path):
    config = read(
        path,
        "/**: {ros__parameters: {use_sim_time: true, radar_fields: {rcs: RCS, doppler: v_r,\n"
        "  RADAR_FRONT: {rcs: power}}}}\n"
        "other: {ros__parameters: {nothing: 1}}\n"
        "/detector_node:\n"
        "  ros__parameters:\n"
        "    radar_fields.rcs: rcs_dbsm\n"
        "    qos_overrides: {/cam: {subscription: {depth: 1}}}\n"
        "    sensors: [CAM_FRONT, RADAR_FRONT]\n",
    )
    assert (config.radar_fields.rcs, config.radar_fields.doppler) == ("rcs_dbsm", "v_r")
    assert config.radar_fields.of("RADAR_FRONT").rcs == "power"
    assert config.sensors == ("CAM_FRONT", "RADAR_FRONT")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no parameters for detector_node; expected a section"),
        ("- 1", "no parameters for detector_node"),
        ("a: [", "cannot read parameters"),
        ("/**: {sync: 1}", r"/\*\*: expected ros__parameters with a mapping"),
        ("/**: {ros__parameters: {thresholds: {car: 0.3}}}", "thresholds.car: 0.3 is of another"),
        ("/**: {ros__parameters: {remap: {car: 3}}}", "remap.car: 3 is of another"),
        ("/**: {ros__parameters: {sync: {wayt: 0.1}}}", "did you mean 'sync.wait'"),
        ("/**: {ros__parameters: {sync: {wait: 1}}}", "sync.wait: 1 is of another type than"),
        ("/**: {ros__parameters: {sync: {wait: 99.0}}}", r"sync.wait: expected 0.0 to 5.0"),
        ("/**: {ros__parameters: {cameras: {rectified: yes}}}", "rectified: True is of another"),
        ("/**: {ros__parameters: {sensors: CAM_FRONT}}", "sensors: 'CAM_FRONT' is of another"),
        (
            "/**: {ros__parameters: {radar_fields: {RADAR_FRONT: {degrees: 1}}}}",
            "RADAR_FRONT.degrees: 1 is of another type than the default False",
        ),
    ],
)
def test_errors_name_the_file_and_the_parameter(path, text, error):
    with pytest.raises(ParameterError, match=rf"node\.yaml: .*{error}"):
        read(path, text)
    with pytest.raises(ParameterError, match=r"missing\.yaml: cannot read parameters"):
        load(path.with_name("missing.yaml"), NodeConfig, node="detector_node")


def test_later_files_and_the_command_line_win(tmp_path):
    for name, text in (("a", "device: cuda, threads: 3"), ("b", "threads: 4, sync: {wait: 0.1}")):
        (tmp_path / name).write_text(f"/**: {{ros__parameters: {{{text}}}}}")
    files = [tmp_path / "a", tmp_path / "b"]
    above = {"radar_fields.vx": "''", "radar_fields.vy": "''", "use_sim_time": "true"}
    above |= {"sync.wait": "0.2", "sensors": "[CAM_FRONT]"}
    found = load_all(files, NodeConfig, node="detector_node", above=above)
    assert (found.device, found.threads, found.sync.wait) == ("cuda", 4, 0.2)
    assert found.sensors == ("CAM_FRONT",) and found.radar_fields.vx == ""
    assert load_all([], NodeConfig, node="detector_node") == NodeConfig()
    with pytest.raises(ParameterError, match="parameter threads=x: threads: 'x' is of another"):
        load_all(files, NodeConfig, node="detector_node", above={"threads": "x"})
    with pytest.raises(ParameterError, match=r"/a, .*/b, .*: unknown .*mean 'threads'"):
        load_all(files, NodeConfig, node="detector_node", above={"thraeds": "1"})


def test_any_class_can_be_meant(path):
    """Which classes there are is told by the weights, later."""
    config = read(
        path,
        "/**: {ros__parameters: {thresholds: {ranges: [0.0, 9.0], Tram: [0.1, 0.2]}, "
        "remap: {Tram: ''}, tracking: {gate: {Tram: 4.0}}}}\n",
    )
    assert config.thresholds.least("Tram") == (0.1, 0.2)
    assert config.thresholds.least("car") == (0.0,)
    assert (config.remap.published("Tram"), config.remap.published("car")) == ("", "car")
    assert config.tracking.gate.metres("Tram") == 4.0
    assert config.tracking.gate.metres("truck") == 3.0


def test_what_ros_reads_is_what_we_read(path):
    """The same file through the real node's declaration."""
    pytest.importorskip("rclpy")
    from crkd_ros.parameters.declaration import declare

    text = yaml.safe_dump(
        {
            "/**": {
                "ros__parameters": {
                    "sync": {"wait": 0.25},
                    "radar_fields": {"rcs": "RCS"},
                    "thresholds": {"Tram": [0.5]},
                }
            }
        }
    )
    ours = read(path, text)
    with started(path) as node:
        assert declare(node, NodeConfig) == ours


SAID = "{ros__parameters: {a: 1}}"


@pytest.mark.parametrize(
    "text",
    [
        f"robot1: {{detector_node: {SAID}}}",
        f"/robot1/detector_node: {SAID}",
        f"detector_node: {SAID}",
        f"robot2: {{detector_node: {SAID}}}",
        f"/**: {{detector_node: {SAID}}}",
        f"/**/detector_node: {SAID}",
        f"/**: {{other_node: {SAID}}}",
        f"/*: {{detector_node: {SAID}}}",
        f"/*: {SAID}",
        f"/robot1/**: {SAID}",
        f"/robot1: {{'*': {SAID}}}",
        f"/**: {{ros__parameters: {{a: 2}}}}\nrobot1: {{detector_node: {SAID}}}",
        f"robot1: {{detector_node: {SAID}}}\n/**: {{ros__parameters: {{a: 2}}}}",
    ],
)
def test_sections_reach_the_node_that_rcl_has_them_reach(path, text):
    path.write_text(text)
    ours = given(path, node="detector_node", namespace="robot1")
    with started(path, "-r", "__ns:=/robot1") as node:
        assert {name: one.value for name, one in node._parameter_overrides.items()} == ours


@contextlib.contextmanager
def started(path, *arguments):
    """A node that was started with a parameter file."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(path), *arguments], context=context)
    node = rclpy.create_node("detector_node", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.parametrize("name", ["detector", "vehicle", "replay"])
def test_shipped_files_survive_rcl_dump_and_load(name, path, request):
    """rcl reads what we read, also from what `ros2 param dump` would write of it."""
    pytest.importorskip("rclpy")
    from crkd_ros.parameters.declaration import declare

    shipped = request.config.rootpath / "config" / f"{name}.yaml"
    expected = load(shipped, NodeConfig, node="detector_node")
    with started(shipped) as node:
        assert declare(node, NodeConfig) == expected
        nested: dict = {}
        for parameter in node.get_parameters_by_prefix("").values():
            *groups, leaf = parameter.name.split(".")
            inner = nested
            for group in groups:
                inner = inner.setdefault(group, {})
            value = parameter.value
            inner[leaf] = list(value) if isinstance(value, tuple | array.array) else value
    # As the verb of ros2cli writes it.
    path.write_text(
        yaml.dump({"/detector_node": {"ros__parameters": nested}}, default_flow_style=False)
    )
    with started(path) as node:
        assert declare(node, NodeConfig) == expected
    assert load(path, NodeConfig, node="detector_node") == expected


@pytest.mark.parametrize("word", ["y", "n", "on", "off", "Yes", "NO"])
def test_words_that_rcl_takes_for_booleans_are_no_texts(word, path):
    pytest.importorskip("rclpy")
    from crkd_ros.parameters.declaration import declare

    text = f"/**: {{ros__parameters: {{base_frame: {word}}}}}\n"
    with pytest.raises(ParameterError, match="is of another type than the default 'base_link'"):
        read(path, text)
    with started(path) as node, pytest.raises(ParameterError, match=r"base_frame.*BOOL"):
        declare(node, NodeConfig)
    quoted = f"/**: {{ros__parameters: {{base_frame: '{word}'}}}}\n"
    with pytest.raises(ParameterError, match="is a boolean for YAML"):
        read(path, quoted)
    with started(path) as node, pytest.raises(ParameterError, match="is a boolean for YAML"):
        declare(node, NodeConfig)
