"""What an image costs before the network, by how it is sent.

Command: `python tools/image_costs.py`. One thread, processor time, a made-up picture
with a photograph's share of detail.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from crkd_core.command import run_function
from crkd_core.config import ImageConfig
from crkd_core.presets import demo_student
from crkd_core.tables import Table, print_tables
from crkd_ros.convert.camera_model import CameraModel
from crkd_ros.convert.images import image_rgb

_COMPRESSED = {"jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]), "png": (".png", [])}
_RAW = {
    "rgb8": 3,
    "bgr8": 3,
    "bgra8": 4,
    "mono8": 1,
    "mono16": 2,
    "bayer_rggb8": 1,
    "yuv422": 2,
    "yuv422_yuy2": 2,
}


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Noise of all wavelengths and rectangles, uint8 [H, W, 3] BGR."""
    rng = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 9):
        size = 2**octave
        coarse = rng.normal(0, 1, (max(2, size * 9 // 16), size, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    image = (image - image.min()) / np.ptp(image) * 255
    out: NDArray[np.uint8] = image.astype(np.uint8)
    for _ in range(60):
        x, y = rng.integers(0, (width, height))
        w, h = rng.integers(5, (width // 6, height // 6))
        cv2.rectangle(out, (int(x), int(y), int(w), int(h)), rng.integers(0, 255, 3).tolist(), -1)
    return out


def costs(width: int, height: int, config: ImageConfig, *, repeats: int) -> Table:
    """Milliseconds of one image, median of ``repeats``, for every way to send it.

    Args:
        width: of the image.
        height: likewise.
        config: what it is prepared for.
        repeats: how often each step is run.
    """
    focal = 0.8 * width
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    straight = CameraModel.pinhole(matrix, (width, height))
    bent = CameraModel(
        matrix=straight.matrix,
        straight=straight.matrix,
        distortion="plumb_bob",
        coefficients=(-0.3, 0.1, 0.0, 0.0, 0.0),
        size=(width, height),
    )
    image = picture(width, height)
    resize = _milliseconds(lambda: straight.prepare(image, config), repeats)
    undistort = _milliseconds(lambda: bent.prepare(image, config), repeats)
    rows = []
    for name, message in _messages(image):
        decode = _milliseconds(lambda m=message: image_rgb(m), repeats)  # type: ignore[misc]
        values = (decode, decode + resize, decode + undistort)
        rows.append((name, f"{len(message.data) / 1e6:.2f}", *(f"{v:.2f}" for v in values)))
    return Table(
        title=f"{width} x {height} to {config.width} x {config.height}, ms per image",
        columns=("sent as", "MB", "to RGB", "to the network", "the same, undistorted"),
        rows=rows,
    )


def _messages(image: NDArray[np.uint8]) -> Iterator[tuple[str, Any]]:
    for name, (extension, options) in _COMPRESSED.items():
        data = cv2.imencode(extension, image, options)[1].ravel()
        yield name, SimpleNamespace(format=name, data=data)
    height, width = image.shape[:2]
    content = np.ascontiguousarray(np.concatenate([image, image[..., :1]], -1)).ravel()
    for name, size in _RAW.items():
        yield (
            name,
            SimpleNamespace(
                encoding=name,
                height=height,
                width=width,
                step=width * size,
                is_bigendian=0,
                data=content[: height * width * size],
            ),
        )


def _milliseconds(work: Callable[[], Any], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


def command(
    repeats: Annotated[int, typer.Option(min=1, help="How often each step is run.")] = 20,
) -> None:
    """Print the time that an image costs before the network, for every way to send it."""
    cv2.setNumThreads(1)
    demo = demo_student().detector.image
    for config in (ImageConfig(), demo):
        for width, height in ((1600, 900), (800, 450)):
            print_tables(costs(width, height, config, repeats=repeats))


def main() -> None:
    """Run the command."""
    run_function(command)


if __name__ == "__main__":
    main()
