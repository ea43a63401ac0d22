"""From light to a picture: blur, drops on the glass, glare, exposure, noise, grey levels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.world import chance
from crkd_core.world.content.weather import NIGHT, RAIN, Weather

JPEG_QUALITY = 90
#: Mean brightness that the exposure aims at, how far it may go (factors).
_TARGET = {NIGHT: (0.17, 0.5, 4.0)}
_DAY = (0.46, 0.65, 1.6)
#: Drops stay where they are for some seconds.
_DROPS, _STAY = 34, 4.0

_NOISE = np.random.default_rng(7).normal(0, 1, (320, 320, 3)).astype(np.float32)


class Lens:
    """Glass and sensor of one camera in one drive.

    Args:
        weather: of the drive.
        key: numbers that name drive and camera.
        width, height: pixels.
    """

    def __init__(self, *, weather: Weather, key: tuple[int, int], width: int, height: int) -> None:
        self._weather, self._key = weather, key
        self._size = width, height
        tint = 1 + 0.02 * chance.normal(*key, np.arange(3), 50)
        self._tint = tint.astype(np.float32)
        self._focus = float(0.35 + 0.25 * chance.uniform(*key, 51)) * width / 800

    def develop(
        self, image: NDArray[np.float32], t: float, smear: float, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Light [H, W, 3], 1 = white in daylight, to a picture.

        Args:
            image: is changed.
            t: seconds, for the drops.
            smear: how far the view moves sideways while the shutter is open, pixels.
            rng: noise, and the small faults of the exposure.
        """
        weather = self._weather
        if weather.kind == NIGHT:
            image = self._glare(image)
        if smear > 0.7:
            image = _smeared(image, smear)
        sharpness = self._focus + (0.25 * self._size[0] / 800 if weather.kind == RAIN else 0)
        if sharpness > 0.28:
            image = _floats(cv2.GaussianBlur(image, (0, 0), sharpness))
        if weather.kind == RAIN:
            image = self._wet(image, t)
        gain = self._gain(image, rng)
        image *= self._tint * np.float32(255 * gain)
        # A tile of noise at a drawn place: fresh noise for every pixel costs as much as the rays.
        width, height = self._size
        y, x = (int(k) for k in rng.integers(0, 64, 2))
        tile = _NOISE[y : y + 256, x : x + 256] * np.float32(weather.noise * max(gain, 0.8))
        reps = (-(-height // 256), -(-width // 256), 1)
        image += np.tile(tile, reps)[:height, :width] if max(reps) > 1 else tile[:height, :width]
        np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8)

    def _gain(self, image: NDArray[np.float32], rng: np.random.Generator) -> float:
        """Automatic exposure: most of the way to the target, within limits."""
        target, low, high = _TARGET.get(self._weather.kind, _DAY)
        mean = float(np.minimum(image[::4, ::4], 1.2).mean()) + 1e-3
        gain = np.clip((target / mean) ** 0.75, low, high)
        return float(gain * np.exp(rng.normal(0, 0.03)))

    def _glare(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        bright = np.clip(small - 0.7, 0, 3)
        reach = self._size[0] / 416
        halo = cv2.GaussianBlur(bright, (0, 0), 1.6 * reach) * np.float32(0.6)
        halo += cv2.GaussianBlur(bright, (0, 0), 7 * reach) * np.float32(0.5)
        return image + cv2.resize(halo, self._size, interpolation=cv2.INTER_LINEAR)

    def _wet(self, image: NDArray[np.float32], t: float) -> NDArray[np.float32]:
        """Drops on the glass: round spots that show a smeared, displaced view."""
        width, height = self._size
        number = np.arange(_DROPS)
        spell = np.floor(t / _STAY + chance.uniform(*self._key, number, 60)).astype(int)
        u, v, r, there = (chance.uniform(*self._key, number, spell, 61 + k) for k in range(4))
        cover = np.zeros((height, width), np.float32)
        radius = (0.006 + 0.022 * r**2) * width
        for k in np.flatnonzero(there < 0.75):
            centre = (int(u[k] * width * 16), int(v[k] * height * 16))
            strength = 0.55 + 0.45 * float(r[k])
            cv2.circle(cover, centre, int(radius[k] * 16), strength, -1, cv2.LINE_AA, 4)
        cover = _floats(cv2.GaussianBlur(cover, (0, 0), max(0.004 * width, 0.8)))[..., None]
        small = cv2.resize(image, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
        smooth = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.5), self._size)
        # A drop is a small lens: what is above appears below.
        turned = np.roll(smooth[::-1], height // 6, axis=0)
        view = np.float32(0.6) * smooth + np.float32(0.4) * turned
        return image + cover * (view - image)


def _smeared(image: NDArray[np.float32], pixels: float) -> NDArray[np.float32]:
    """Averaged sideways over a fractional number of pixels."""
    reach = min(pixels, image.shape[1] / 60)
    half = int(np.ceil(reach / 2))
    kernel = np.clip(reach / 2 + 0.5 - np.abs(np.arange(-half, half + 1)), 0, 1)
    return _floats(cv2.filter2D(image, -1, (kernel / kernel.sum())[None].astype(np.float32)))


def _floats(image: object) -> NDArray[np.float32]:
    return np.asarray(image, np.float32)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """RGB picture to JPEG bytes."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
