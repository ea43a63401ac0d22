"""Weights files: whole and of today, or refused in one line before their sizes cost anything."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_tiny import TINY, with_branches
from safetensors import safe_open
from safetensors.torch import save_file

from crkd_core.config import ConfigError, to_dict
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import (
    FORMAT_KEY,
    CheckpointError,
    load_weights,
    read_config,
    read_metadata,
    save_weights,
)
from crkd_core.presets import PRESETS, preset


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    save_weights(build_detector(TINY), path, extra={"step": "7"})
    return path


AGAIN = """
import sys
from crkd_core.model.checkpoint import load_weights, save_weights
save_weights(load_weights(sys.argv[1]), sys.argv[2], extra={"step": "7"})
"""


def test_the_same_weights_are_the_same_bytes(file, tmp_path):
    for _ in range(8):
        save_weights(load_weights(file), tmp_path / "here", extra={"step": "7"})
        assert (tmp_path / "here").read_bytes() == file.read_bytes()
    subprocess.run(
        [sys.executable, "-c", AGAIN, file, tmp_path / "there"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    assert (tmp_path / "there").read_bytes() == file.read_bytes()


def rewritten(file, config, *, keep=(), name="other.safetensors"):
    """The file's tensors with another configuration."""
    with safe_open(file, "pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        metadata = {key: opened.metadata()[key] for key in (FORMAT_KEY, *keep)}
    path = file.with_name(name)
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(tensors, path, metadata={**metadata, "config": text})
    return path


def changed(value, *path):
    """The configuration of TINY with one value at a place changed."""
    data = to_dict(TINY)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


def refused(path, text):
    with pytest.raises(CheckpointError, match=text) as caught:
        load_weights(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_know_themselves(file):
    assert {*read_metadata(file)} == {"config", "format", "sha256", "step"}
    model = load_weights(file)
    assert model.config == TINY and not model.training
    # A file without a checksum, as earlier versions wrote, is fine.
    same = load_weights(rewritten(file, to_dict(TINY)))
    for name, value in model.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    # The same tensors under a configuration that only looks like theirs.
    other = changed([0.5, 0.5, 0.5], "image", "mean")
    load_weights(rewritten(file, other))
    refused(rewritten(file, other, keep=("sha256",)), "checksum.*damaged, copy it again")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built_without_memory(name):
    with torch.device("meta"):
        model = build_detector(preset(name).detector, pretrained=False)
    assert all(value.is_meta for value in model.state_dict().values())


@pytest.mark.parametrize("name", ["demo_student", "imkd_r50", "crkd_r50"])
def test_torchs_compiler_is_not_imported_to_lay_out_a_network(name):
    code = (
        "import sys, torch\n"
        "from crkd_core.model.build import build_detector\n"
        "from crkd_core.presets import preset\n"
        "with torch.device('meta'):\n"
        f"    build_detector(preset({name!r}).detector, pretrained=False)\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shapes_of_a_network_without_memory_are_its_shapes(file):
    with torch.device("meta"):
        meta = build_detector(TINY, pretrained=False).state_dict()
    real = load_weights(file).state_dict()
    assert {k: v.shape for k, v in meta.items()} == {k: v.shape for k, v in real.items()}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("fused_channels",), 10**9, "fused_channels: expected 1 to 8192"),
        (("fused_channels",), 0, "fused_channels: expected 1 to 8192"),
        (("grid", "cell"), 0.0, "grid.cell: expected 0.01 to 100"),
        (("grid", "cell"), 1e-9, "grid.cell: expected 0.01 to 100"),
        (("grid", "cell"), 0.011, "grid: cells: expected 1 to"),
        (("grid", "low"), [24.0, -16.0, -5.0], "grid.low and grid.high: expected the first below"),
        (("image", "height"), 0, "image.height: expected 1 to"),
        (("image", "std"), [0.0, 1.0, 1.0], "image.std: expected"),
        (("image", "zoom"), float("inf"), "image.zoom: expected 0.01 to 100, got inf"),
        (("camera", "depth"), [1.0, 60.0, 0.0], "camera.depth: step: expected"),
        (("camera", "stride"), 3, "camera.stride: expected strides out of"),
        (("camera", "neck_levels"), [], "camera.neck_levels: expected 1 to 8 entries"),
        (("camera", "neck_levels"), [16, 8, 4], "camera.neck_levels: expected rising"),
        (("camera", "backbone", "depths"), [10**9] * 4, "backbone.depths: expected 1 to 200"),
        (("camera", "backbone", "hidden"), [8, 8], "backbone.hidden: expected 4 entries"),
        (("radar", "channels"), [], "radar.channels: expected 1 to 16 entries"),
        (("radar", "sweeps"), 0, "radar.sweeps: expected 1 to 100"),
        (("decoder", "strides"), [2, 2], "decoder.strides: expected 3 entries, got 2"),
        (("decoder", "blocks"), 0, "decoder.blocks: expected 1 to 64"),
        (("head", "tasks"), [], "head.tasks: expected 1 to 100 entries"),
        (("head", "output_kernel"), 2, "head.output_kernel: expected an odd number"),
        (("head", "keep"), -1, "head.keep: expected 1 to"),
        (("head", "size_limits"), [1.0, 1.0], "head.size_limits: expected the first below"),
        (("head", "code_weights"), [1.0], "head.code_weights: expected 10 entries"),
        (("norm_momentum",), float("nan"), "norm_momentum: expected 0 to 1, got nan"),
        (("ego_T_grid",), [[0.0] * 4] * 4, "ego_T_grid: expected a rotation and a shift"),
        (("ego_T_grid",), [[1.0]], "ego_T_grid: expected 4 entries"),
        (("fused_channels",), 10**400, "fused_channels: expected 1 to 8192"),
        (("grid", "cell"), 10**400, "grid.cell: expected a number"),
        (("classes",), [], "classes: expected 1 to 1000 entries"),
    ],
)
def test_values_out_of_range_are_refused_by_name(file, path, value, text):
    refused(rewritten(file, changed(value, *path)), text)
    with pytest.raises(CheckpointError, match=text):
        read_config(file.with_name("other.safetensors"))


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{", "[" * 100_000, '{"name": {}}', '"\\ud800"', "{}"]
)
def test_odd_configurations_are_refused(file, text):
    refused(rewritten(file, text), "configuration in the metadata")


LIMITED = """
import resource, sys
from crkd_core.model.checkpoint import CheckpointError, load_weights
import torch
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), used + (600 << 20)))
try:
    load_weights(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


def test_sizes_are_compared_before_memory_is_taken(file):
    """Each of these is in its range, and together they are hundreds of gigabytes."""
    data = changed([8192, 8192, 8192, 8192], "camera", "backbone", "hidden")
    data["decoder"]["channels"] = [8192, 8192, 8192]
    path = rewritten(file, data, name="large.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False
    )
    assert "tensors do not fit the configuration" in done.stdout, done.stderr[-2000:]


def test_tensors_that_are_not_finite_are_neither_read_nor_written(file, tmp_path):
    model = load_weights(file)
    name = "head.shared.1.running_var"
    model.state_dict()[name][0] = float("nan")
    with pytest.raises(CheckpointError, match=f"w.safetensors is not written: {name} holds"):
        save_weights(model, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    with safe_open(file, "pt") as opened:
        save_file(tensors, tmp_path / "w.safetensors", metadata=opened.metadata())
    refused(tmp_path / "w.safetensors", f"{name} holds values that are not finite")


def test_a_run_folder_stands_for_its_weights(file, tmp_path):
    refused(tmp_path, "a folder without weights.safetensors")
    shutil.copy(file, tmp_path / "weights.safetensors")
    assert read_config(tmp_path) == read_config(file)
    expected = load_weights(file).state_dict()
    found = load_weights(tmp_path).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_devices_and_others_are_no_weights(tmp_path):
    for path, text in (
        ("/dev/zero", "is a device or a pipe"),
        (str(tmp_path), "a folder without weights.safetensors; expected a folder of"),
        (str(tmp_path / "none"), "no such file"),
    ):
        refused(path, text)


def test_training_does_not_save_what_is_not_finite(tmp_path, monkeypatch):
    from train_tiny import FRAMES, a_config

    from crkd_core.train.loop import train
    from crkd_core.train.run_checkpoint import save
    from crkd_core.train.run_folder import Run

    with pytest.raises(ConfigError, match="norm_momentum: expected 0 to 1, got nan"):
        dataclasses.replace(a_config().detector, norm_momentum=float("nan"))
    run = Run.start(tmp_path, a_config(steps=2, checkpoint_steps=1), data="", split="")

    def poisoned(run, parts, *, step):
        if step == 2:
            parts.model.state_dict()["head.shared.1.running_mean"][0] = float("inf")
        save(run, parts, step=step)

    monkeypatch.setattr("crkd_core.train.loop.save", poisoned)
    with pytest.raises(CheckpointError, match=r"not saved at step 2: head\.shared.*not finite"):
        train(run, FRAMES)
    # The last good ones are still there.
    assert read_metadata(tmp_path / "weights.safetensors")["step"] == "1"
    assert torch.load(tmp_path / "checkpoint.pt")["step"] == 1


# ---- fuzzing


def leaves(data, path=()):
    """(place, value) of every value of a configuration."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key), value
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


_PLACES = [place for place, _ in leaves(to_dict(TINY))]
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**63, 10**30, -1, 0, 1e308, 1e-308, 0.5, 2.0]),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.one_of(st.integers(-1, 40), st.floats(0, 50)), max_size=5),
    st.just({}),
)
_FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_FUZZ
@given(place=st.sampled_from(_PLACES), value=_VALUES)
def test_any_configuration_is_refused_or_that_of_the_network(file, place, value):
    path = rewritten(file, changed(value, *place), name="fuzz.safetensors")
    try:
        model = load_weights(path)
    except CheckpointError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        assert len(str(error)) < 2000
    else:
        got = to_dict(model.config)
        for key in place:
            got = got[key]
        assert got == value or (value == {} or isinstance(value, str))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Without an image backbone, which takes the longest to build."""
    path = tmp_path_factory.mktemp("small") / "good.safetensors"
    save_weights(build_detector(with_branches("radar")), path, extra={"step": "7"})
    return path


@_FUZZ
@given(
    place=st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.2)),
    cut=st.integers(0, 9),
    put=st.binary(max_size=9),
)
def test_any_damage_of_a_file_is_refused(small, place, cut, put):
    data = small.read_bytes()
    at = int(place * len(data))
    damaged = data[:at] + put + data[at + cut :]
    path = small.with_name("damaged.safetensors")
    path.write_bytes(damaged)
    if damaged == data:
        load_weights(path)
        return
    try:
        load_weights(path)
    except CheckpointError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        # What was damaged is not the network: its step, or the name of the checksum.
        good, got = read_metadata(small), read_metadata(path)
        assert got["config"] == good["config"]
        assert got.get("sha256", "") in ("", good["sha256"])
