import dataclasses

import pytest

from crkd_core.config import (
    ConfigError,
    DetectorConfig,
    HeadConfig,
    LidarConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from crkd_core.config.override import override
from crkd_core.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    config = preset(name)
    assert from_dict(TrainConfig, to_dict(config)) == config
    assert config.detector.name == name


def test_defaults_are_the_published_student():
    student = preset("crkd_r50").detector
    made = DetectorConfig(
        name=student.name, head=HeadConfig(tasks=student.head.tasks), classes=student.classes
    )
    assert made == student
    # Its teacher's voxels belong to the same grid.
    assert override(preset("crkd_r50"), ["detector.lidar={}"]).detector.lidar == LidarConfig()
    assert preset("lc_r50").detector.lidar == LidarConfig()


def test_unknown_keys_name_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"unknown key 'grid.cel'; did you mean 'cell'"):
        from_dict(DetectorConfig, {"name": "x", "grid": {"cel": 1.0}})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"name": 3}, "name: expected str, got 3"),
        ({"name": "x", "camera": {"stride": "8"}}, "camera.stride: expected int, got '8'"),
        ({"name": "x", "grid": {"low": [1, 2]}}, "grid.low: expected 3 values, got 2"),
        (
            {"name": "x", "camera": {"backbone": {"kind": "vgg"}}},
            "expected one of 'resnet', 'swin'",
        ),
        ({"name": "x", "classes": "car"}, "classes: expected a list"),
        ({}, "name"),
    ],
)
def test_wrong_values_say_where(data, text):
    with pytest.raises(ConfigError, match=text.replace("(", r"\(")):
        from_dict(DetectorConfig, data)


def test_unknown_preset_and_class():
    with pytest.raises(ConfigError, match="did you mean 'demo_student'"):
        preset("demo_studen")
    task = to_dict(preset("demo_student"))["detector"]["head"]["tasks"][0]
    with pytest.raises(ConfigError, match="unknown dog, no task for car"):
        override(
            preset("demo_student"), [f"detector.head.tasks=[{ {**task, 'classes': ['dog']} }]"]
        )


def test_another_list_of_classes_is_data():
    tasks = "[{classes: [Car], nms: circle, nms_threshold: 2.0}, {classes: [Pedestrian, Cyclist]}]"
    other = "detector.classes=[Car, Pedestrian, Cyclist]"
    config = override(preset("demo_student"), [other, f"detector.head.tasks={tasks}"])
    assert config.detector.classes == ("Car", "Pedestrian", "Cyclist")
    assert [task.classes for task in config.detector.head.tasks] == [
        ("Car",),
        ("Pedestrian", "Cyclist"),
    ]
    with pytest.raises(ConfigError, match=r"no task for Car, .*set both together"):
        override(preset("demo_student"), [other])


def test_override_changes_one_value():
    changed = override(preset("demo_student"), ["augment.bev_flip=0", "detector.camera.stride=32"])
    expected = preset("demo_student")
    assert expected.augment is not None
    assert changed.augment == dataclasses.replace(expected.augment, bev_flip=0.0)
    assert changed.detector.camera.stride == 32
    assert override(expected, ["learning_rate=1e-3"]).learning_rate == 1e-3
    assert override(expected, ["augment=null"]).augment is None
    with pytest.raises(ConfigError, match=r"expected KEY\.KEY=VALUE"):
        override(expected, ["steps"])
    with pytest.raises(ConfigError, match="'optics' is not a group"):
        override(expected, ["optics.zoom=1"])


def test_overrides_need_to_fit_together_alone():
    ends = ["detector.grid.low=[-50, -50, -5]", "detector.grid.high=[50, 50, 3]"]
    assert override(preset("demo_student"), ends).detector.grid.shape == (125, 125)


def test_override_takes_branches_away_and_makes_them():
    student = preset("demo_student")
    assert override(student, ["detector.radar=null"]).detector.branches == ("camera",)
    three = override(student, ["detector.lidar={}", "detector.lidar.sweeps=3"]).detector
    assert three.branches == ("camera", "radar", "lidar")
    assert (three.radar_sweeps, three.lidar_sweeps) == (6, 3)
    with pytest.raises(ConfigError, match=r"no lidar to change, it is null; detector\.lidar={}"):
        override(student, ["detector.lidar.sweeps=3"])
    with pytest.raises(ConfigError, match="all null, and it needs one"):
        override(student, ["detector.radar=null", "detector.camera=null"])
    # What docs/method.md says goes with a branch.
    imkd = preset("demo_imkd")
    with pytest.raises(ConfigError, match=r"guide: demo_imkd needs .*; set it to null"):
        override(imkd, ["detector.radar=null"])
    blocks = ["detector.guide=null", "detector.camera.radar_view=null"]
    assert override(imkd, ["detector.radar=null", *blocks]).detector.branches == ("camera",)
    radars = ["detector.camera=null", "detector.guide=null", "depth_weight=0"]
    assert override(imkd, radars).detector.branches == ("radar",)
    lift = ["paste=null", "detector.camera.lidar_depth=false", "detector.camera.lift_cell=null"]
    camera = override(preset("lc_r50"), ["detector.lidar=null", *lift])
    assert camera.detector.branches == ("camera",)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("steps=0", "steps: expected 1 or more, got 0"),
        ("workers=-1", "workers: expected 0 or more, got -1"),
        ("learning_rate=-1", "learning_rate: expected a number above 0, got -1.0"),
        ("learning_rate=.nan", "learning_rate: expected a number above 0, got nan"),
        ("augment.bev_flip=2", r"augment\.bev_flip: expected 0 to 1, got 2\.0"),
        ("augment.bev_scale=[1.1, 0.9]", r"augment\.bev_scale: expected 0 < low <= high"),
        ("augment.image_zoom=[0.001, 0.001]", r"augment\.image_zoom: expected 0.05 to 20"),
        ("augment.bev_rotation=.inf", r"augment\.bev_rotation: expected 0 to 180, got inf"),
        # Of 0.8 and 0.8 the radars would be dropped in a fifth of the samples.
        (
            "augment={drop_all_cameras: 0.8, drop_all_radars: 0.8}",
            r"augment\.drop_all_radars: expected a sum of at most 1, got 1\.6",
        ),
        ("seed=18446744073709551616", r"seed: expected 0 to 1\.8"),
        ("detector.name=' '", "name: expected what the detector is called, got ' '"),
        ("steps=[", "not a YAML value"),
        ("=3", r"expected KEY\.KEY=VALUE"),
        ("augment=1", "augment: expected a mapping, got 1"),
        ("detector.camera=null", "depth_weight: demo_student has no cameras"),
        (
            "detector.grid.high=[51.0, 51.2, 3]",
            "a whole number of cells of 0.8 m along x, got 127.75",
        ),
        ("sensors=[CAM_TOP]", "sensors: unknown CAM_TOP; known: CAM_FRONT, "),
    ],
)
def test_settings_out_of_range_are_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        override(preset("demo_student"), [change])


def test_sensors_that_the_detector_has_no_branch_for_are_not_seen():
    radar = preset("demo_radar")
    seen = override(radar, ["sensors=[CAM_FRONT, RADAR_FRONT]"]).seen
    assert seen == ("RADAR_FRONT",)
    with pytest.raises(ConfigError, match=r"demo_radar reads none of CAM_FRONT; .* for radar"):
        override(radar, ["sensors=[CAM_FRONT]"])
    # LiDAR is never masked.
    assert override(preset("demo_teacher"), ["sensors=[CAM_BACK]"]).seen == (
        "CAM_BACK",
        "LIDAR_TOP",
    )
