"""`crkd import-official`: a released .pth in, weights with their configuration out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from official_keys import student
from safetensors import safe_open
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import DetectorConfig, from_dict
from crkd_core.files import OutputError
from crkd_core.model.checkpoint import load_weights
from crkd_core.official import OfficialError, convert, import_official
from crkd_core.official.file import read_state_dict


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint as mmcv writes it; its zeros take no room."""
    state = student("r50")
    state["heads.object.task_heads.0.rot.1.bias"] = torch.tensor([3.0, 4.0])
    path = tmp_path_factory.mktemp("released") / "epoch_20.pth"
    meta = {"epoch": 20, "CLASSES": ("car", "truck"), "seed": 0}
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def test_import_and_load(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "student.safetensors"
    result = CliRunner().invoke(app, ["import-official", str(released), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    model = load_weights(out)
    assert model.config == convert(read_state_dict(released))[0]
    assert model.head.outputs[3].bias.tolist() == [-4, -3]
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["imported_from"] == "epoch_20.pth"
    assert len(metadata["imported_sha256"]) == 64
    assert from_dict(DetectorConfig, json.loads(metadata["config"])) == model.config

    # A second import must not touch it.
    before = out.stat()
    with pytest.raises(OutputError, match=r"already holds \w+\.safetensors; pass --overwrite"):
        import_official(released, out)
    assert (out.stat().st_mtime_ns, out.stat().st_size) == (before.st_mtime_ns, before.st_size)
    import_official(released, out, overwrite=True)
    assert out.stat().st_mtime_ns > before.st_mtime_ns
    # Nor may any what it reads.
    data = released.read_bytes()
    with pytest.raises(OutputError, match="it is read; choose another --out"):
        import_official(released, released, overwrite=True)
    assert released.read_bytes() == data


def test_bare_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save({"encoders.x": torch.ones(2)}, path)
    assert read_state_dict(path)["encoders.x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "state", [{0: torch.ones(2)}, {"a": 3}, {"state_dict": {1: torch.ones(1)}}, {None: None}]
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, state) -> None:
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(OfficialError, match=r"odd\.pth: expected a state dict, names to tensors"):
        read_state_dict(tmp_path / "odd.pth")


class Surprise:
    """Runs code when it is unpickled the careless way."""

    def __reduce__(self) -> tuple:
        return (print, ("this must not be printed",))


def test_code_in_a_file_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "bad.pth", tmp_path / "out.safetensors"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Surprise()}, path)
    with pytest.raises(OfficialError, match=r"bad\.pth: not a checkpoint of tensors"):
        import_official(path, out)
    assert not out.exists()
    assert capsys.readouterr().out == ""


def test_damaged_files(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    cut = tmp_path / "cut.pth"
    cut.write_bytes(released.read_bytes()[:5000])
    text = tmp_path / "text.pth"
    text.write_text("hello")
    empty = tmp_path / "empty.pth"
    empty.touch()
    listed = tmp_path / "listed.pth"
    torch.save([torch.zeros(1)], listed)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(3))
    for path in (cut, text, empty, listed, plain, tmp_path / "absent.pth", tmp_path):
        with pytest.raises(OfficialError, match=path.name):
            import_official(path, out)
    assert not out.exists()


def test_every_cut_of_an_old_file_is_refused(tmp_path: Path) -> None:
    """Files from before PyTorch 1.6 are bare pickles, whose end may lie anywhere."""
    path = tmp_path / "old.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    assert read_state_dict(path)["a"].tolist() == [1, 1]
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(OfficialError, match=r"old\.pth: not a"):
            read_state_dict(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, path)
    with pytest.raises(OfficialError, match=r"other\.pth: neither encoders\.lidar"):
        import_official(path, tmp_path / "out.safetensors")


def test_unknown_part(released: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.safetensors")
    arguments = ["import-official", str(released), "--out", out, "--part", "left"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert "expected auto, student or teacher" in str(result.exception)
