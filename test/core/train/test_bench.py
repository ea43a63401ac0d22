"""A step's parts are all of it, on one thread and on all."""

from __future__ import annotations

import torch

from crkd_core.train.bench import PARTS, bench_training


def test_the_parts_of_a_step_and_the_threads_are_told(capsys):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = bench_training(preset_name="demo_student", batch_size=1, rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    whole = 60 / found["steps_per_minute"]
    assert abs(sum(found[part] for part in PARTS) - whole) < 1e-6
    assert all(found[part] > 0 for part in PARTS)
    # The network and what goes back through it are most of it, or a part was measured elsewhere.
    assert found["network"] + found["backward"] > whole / 2
    printed = capsys.readouterr().out
    assert all(f"{part} ms" in printed.replace("\n", " ") for part in ("batch", "backward"))
