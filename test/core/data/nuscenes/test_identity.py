"""The digest of a set of samples follows what the tables say of them, and nothing else."""

import json
import shutil

import handmade
import pytest

from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames


def digest(root, split="mini_val"):
    return NuScenesFrames(NuScenes(root), split).digest()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity") / "data"
    return handmade.write_version(folder, samples=3, files=False)


def changed(root, tmp_path, table, change):
    shutil.copytree(root, tmp_path / "copy")
    path = tmp_path / "copy" / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    return tmp_path / "copy"


def test_place_and_other_scenes_do_not_matter(tmp_path):
    scenes = ("scene-0061", "scene-0103", "a-scene-with-a-longer-name")
    more = handmade.write_version(tmp_path / "more", samples=3, files=False, scenes=scenes)
    assert digest(more, "mini_train") != digest(more)

    def without_the_third(rows):
        other = {handmade.token(scenes[2], "sample", i) for i in range(3)}
        rows[:] = [
            row
            for row in rows
            if row.get("name") != scenes[2]
            and not other & {row["token"], row.get("sample_token"), row.get("first_sample_token")}
        ]

    less = more
    for table in ("sample_annotation", "sample_data", "sample", "scene"):
        less = changed(less, tmp_path / table, table, without_the_third)
    assert len(NuScenes(less).scenes) == 2
    assert digest(less) == digest(more)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("sample_annotation", "size", [2.0, 4.5, 1.7]),
        ("sample_annotation", "num_lidar_pts", 77),
        ("sample_data", "filename", "samples/else.jpg"),
        ("ego_pose", "translation", [1.0, 2.0, 0.0]),
        ("calibrated_sensor", "translation", [1.0, 2.0, 0.0]),
        ("sample_data", "width", 7),
    ],
)
def test_what_the_tables_say_matters(root, tmp_path, table, field, value):
    copy = changed(root, tmp_path, table, lambda rows: [r.update({field: value}) for r in rows])
    assert digest(copy) != digest(root)


def test_a_sample_less_matters(root):
    tables = NuScenes(root)
    tokens = tables.samples_of("mini_val")
    digests = {NuScenesFrames(tables, t).digest() for t in (tokens, tokens[:2], tokens[::-1])}
    assert len(digests) == 3


def test_sweeps_that_are_not_there_matter_where_they_are_read(tmp_path):
    tables = NuScenes(handmade.write_version(tmp_path, samples=3))
    samples = tables.samples_of("mini_val")

    def digests():
        whole, *parts = (
            NuScenesFrames(tables, samples, **read)
            for read in ({"lidar_sweeps": 2}, {"radar_sweeps": 0, "sensors": ()})
        )
        return [frames.digest() for frames in (whole, whole.lidar_only(), *parts)]

    before = digests()
    for path in (tmp_path / "sweeps" / "LIDAR_TOP").iterdir():
        path.rename(path.with_suffix(".later"))
    without = digests()
    assert [one != other for one, other in zip(before, without, strict=True)] == [1, 1, 0]
    for path in (tmp_path / "sweeps" / "LIDAR_TOP").iterdir():
        path.rename(path.with_suffix(".bin"))
    assert digests() == before
