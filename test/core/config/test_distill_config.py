"""Losses and their weights: one dictionary in the configuration, one option of the command."""

from __future__ import annotations

import dataclasses
import math

import pytest

from crkd_core.config import (
    CRKD_LOSSES,
    PUBLISHED_LOSSES,
    ConfigError,
    CrkdConfig,
    ImkdConfig,
    PasteConfig,
    TrainConfig,
    from_dict,
    loss_weights,
    to_dict,
)
from crkd_core.config.override import override
from crkd_core.presets import demo_student, preset


def a_run(**changes) -> TrainConfig:
    crkd = CrkdConfig(teacher="teacher.safetensors", teacher_checksum="0", **changes)
    return dataclasses.replace(demo_student(), crkd=crkd)


def test_losses_that_are_named_are_on_unless_they_weigh_nothing() -> None:
    crkd = a_run().crkd
    assert crkd is not None and crkd.losses == CRKD_LOSSES
    assert crkd.chosen == set(CRKD_LOSSES)
    crkd = a_run(losses={"csrd": 1.0, "reld": 0.0}).crkd
    assert crkd is not None and crkd.chosen == {"csrd"}


def test_only_runs_with_a_method_are_distillations() -> None:
    assert demo_student().distillations == ()
    assert a_run().distillations == (a_run().crkd,)


def test_weights_of_the_command_line_change_those_of_the_method() -> None:
    assert loss_weights(None, defaults=CRKD_LOSSES) == CRKD_LOSSES
    found = loss_weights(" csrd = 50 ,reld=0", defaults=CRKD_LOSSES)
    assert found == {**CRKD_LOSSES, "csrd": 50.0, "reld": 0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected NAME=WEIGHT, 0 = off"),
        ("csrd", "'csrd': expected NAME=WEIGHT"),
        ("csrd=", "expected NAME=WEIGHT"),
        ("csrd=much", "expected NAME=WEIGHT"),
        ("csrd=nan", "expected NAME=WEIGHT"),
        ("csrd=1,", "'': expected NAME=WEIGHT"),
        ("csrd=1,csrd=2", "csrd comes twice"),
        ("csdr=1", "unknown loss 'csdr'; did you mean 'csrd'"),
        ("respd=1", "unknown loss 'respd'; did you mean 'respd_box'.*respd_heatmap"),
        ("csrd=-1", "a weight of 0 or more for csrd, got -1"),
        ("csrd=inf", "a weight of 0 or more for csrd, got inf"),
    ],
)
def test_what_is_no_weight_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loss_weights(text, defaults=CRKD_LOSSES)


def test_a_configuration_with_losses_survives_its_file() -> None:
    run = a_run(losses={"csrd": 3.0})
    assert from_dict(TrainConfig, to_dict(run)) == run
    changed = override(a_run(), ["crkd.losses.csrd=50", "crkd.csrd_target=code"])
    assert changed.crkd is not None
    assert changed.crkd.losses == {**CRKD_LOSSES, "csrd": 50.0}
    with pytest.raises(ConfigError, match=r"crkd\.losses: unknown loss 'csdr'; did you mean"):
        override(a_run(), ["crkd.losses.csdr=50"])
    with pytest.raises(ConfigError, match=r"crkd\.losses\.csrd: expected float"):
        override(a_run(), ["crkd.losses.csrd=much"])
    with pytest.raises(ConfigError, match=r"crkd\.losses: expected a mapping, got \['csrd'\]"):
        override(a_run(), ["crkd.losses=[csrd]"])


def test_the_published_form_is_one_word() -> None:
    published = CrkdConfig.published(teacher="", teacher_checksum="", reld_affinity="raw")
    assert published.losses == PUBLISHED_LOSSES
    assert (published.csrd_form, published.respd_cells) == ("l1", "teacher")
    assert published.reld_affinity == "raw"
    assert CrkdConfig(teacher="", teacher_checksum="").losses == CRKD_LOSSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"respd_box": 40.0}}, "at most 2 for respd_box.*--form published"),
        ({"respd_channels": ("place", "speed")}, "unknown speed; known: place, height"),
        ({"respd_channels": ()}, "got none; --losses respd_box=0"),
        ({"ramp_steps": -1}, "ramp_steps: expected 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        a_run(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("crkd.rays.along=.nan", "rays.along: expected 0 to 1, got nan"),
        ("imkd.rays.along=-1", "rays.along: expected 0 to 1"),
        ("imkd.rays.across=-0.5", "rays.across: expected 0 to 1"),
        ("crkd.enlarge.growth=[.nan, .nan]", "enlarge.growth: expected 0 to 100"),
        ("crkd.enlarge.growth=[-100, -100]", "enlarge.growth: expected 0 to 100"),
        ("crkd.enlarge.growth=[4, 0.5]", "enlarge.growth: expected the second no lower"),
        ("crkd.enlarge.share=[-5, -5]", "enlarge.share: expected 0 to 10"),
        ("crkd.enlarge.share=[0.1, .nan]", "enlarge.share: expected 0 to 10"),
        ("crkd.enlarge.range=[30, 20]", "enlarge.range: expected the second no lower"),
        ("crkd.enlarge.speed=[.inf, .inf]", "enlarge.speed: expected 0 to 1000"),
        ("imkd.cache_gigabytes=.nan", "cache_gigabytes: expected 0 or more"),
        ("crkd.cache_gigabytes=-1", "cache_gigabytes: expected 0 or more"),
    ],
)
def test_values_that_would_switch_a_loss_off_or_turn_it_round_are_refused(
    change: str, message: str
) -> None:
    imkd = ImkdConfig(teacher="teacher.safetensors", teacher_checksum="0")
    with pytest.raises(ConfigError, match=message):
        override(dataclasses.replace(a_run(), imkd=imkd), [change])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reld_scales": ()}, "crkd.reld_scales: expected 1 to 16 entries, got 0"),
        ({"reld_scales": (0,)}, "crkd.reld_scales: expected 2 to 64, got 0"),
        # One cell has no relation to another: the loss would be 0.
        ({"reld_scales": (4, 1)}, "crkd.reld_scales: expected 2 to 64, got 1"),
        ({"reld_scales": (1000,)}, "crkd.reld_scales: expected 2 to 64, got 1000"),
        ({"respd_class_weights": (-1.0, *[1.0] * 9)}, "respd_class_weights: expected 0 or more"),
        ({"respd_class_weights": (math.nan,) * 10}, "respd_class_weights: expected 0 or more"),
    ],
)
def test_relations_and_classes_have_weights_that_teach(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        a_run(**changes)
    assert a_run(reld_scales=(), losses={"csrd": 1.0}).crkd is not None


def test_boxes_are_not_pasted_into_what_a_teacher_sees() -> None:
    lidar = preset("demo_lidar")
    taught = CrkdConfig(teacher="", teacher_checksum="")
    pasted = PasteConfig(counts=(1,) * 10)
    assert dataclasses.replace(lidar, paste=pasted).paste == pasted
    with pytest.raises(ConfigError, match=r"paste: .*recorded drives alone"):
        dataclasses.replace(lidar, paste=pasted, crkd=taught)
