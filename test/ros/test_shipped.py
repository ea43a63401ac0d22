import os
from pathlib import Path

import pytest

from crkd_core.model.checkpoint import read_config
from crkd_core.presets import preset
from crkd_ros.node import launching
from crkd_ros.shipped import shipped


@pytest.mark.parametrize(
    "name",
    [
        *("config/fastdds.xml", "config/detector.yaml"),
        *("weights/demo_student.safetensors", "weights/demo_plain.safetensors"),
        *("weights/demo_teacher.safetensors", "weights/demo_imkd.safetensors"),
    ],
)
def test_shipped_files_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped(name).is_file()


@pytest.mark.parametrize("name", ["demo_student", "demo_plain", "demo_teacher"])
def test_shipped_weights_are_of_todays_presets(name):
    of = "demo_teacher" if name == "demo_teacher" else "demo_student"
    assert read_config(shipped(f"weights/{name}.safetensors")) == preset(of).detector


def test_what_is_not_shipped_is_left_to_the_working_directory():
    assert shipped("config/no_such_file") == Path("config/no_such_file")


def test_measurements_use_the_shipped_dds_profile(monkeypatch):
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_DOMAIN_ID"):
        monkeypatch.delenv(name, raising=False)
    launching.own_network()
    assert Path(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"
    assert Path(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
