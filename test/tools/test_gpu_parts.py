"""What the tool for GPUs refuses before it needs one."""

from __future__ import annotations

import pytest
from gpu_parts import main

from crkd_core.config import ConfigError
from crkd_core.files import OutputError
from crkd_core.infer.errors import EngineError


def test_figures_are_not_replaced_unasked(tmp_path) -> None:
    kept = tmp_path / "demo_student.json"
    kept.write_text("{}")
    with pytest.raises(OutputError, match=r"already holds demo_student\.json; pass --overwrite"):
        main(out=tmp_path, name="demo_student")
    assert kept.read_text() == "{}"


def test_networks_without_what_is_measured_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"demo_radar: .*expected one with cameras"):
        main(out=tmp_path, name="demo_radar")
    with pytest.raises(EngineError, match="demo_teacher has a LiDAR branch"):
        main(out=tmp_path, name="demo_teacher")
