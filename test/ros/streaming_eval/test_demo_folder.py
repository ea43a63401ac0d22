"""The demo's folder: what it made there before goes, what is the user's stays."""

from __future__ import annotations

import pytest

from crkd_ros.streaming_eval.demo import DemoError, clear


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("something")


def test_what_an_earlier_demo_made_goes_and_all_else_stays(tmp_path):
    made(tmp_path, "node.log", "world/v1.0-mini/scene.json", "bag/bag.mcap", "bev_03.png")
    made(tmp_path, "notes.txt", "runs/student/weights.safetensors", "bev_03_mine.png")
    clear(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert left == ["bev_03_mine.png", "notes.txt", "runs/student/weights.safetensors"]


def test_a_folder_with_a_world_of_the_users_own_is_refused(tmp_path):
    made(tmp_path, "world/v1.0-mini/scene.json", "runs/student/weights.safetensors")
    with pytest.raises(DemoError, match="not the folder of an earlier demo"):
        clear(tmp_path)
    assert (tmp_path / "world/v1.0-mini/scene.json").exists()


def test_an_empty_folder_and_none_are_fine(tmp_path):
    clear(tmp_path)
    clear(tmp_path / "new")
    assert not (tmp_path / "new").exists()
