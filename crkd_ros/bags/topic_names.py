"""What the name of a topic says about its messages."""

from __future__ import annotations

from collections.abc import Sequence

#: Names that image pipelines give to the picture itself, and which of them is better.
_PICTURES = {"image_rect_color": 0, "image_rect": 0, "image_rect_compressed": 0}
_PICTURES |= {"image_raw": 1, "image_color": 1, "image": 1, "raw": 1, "compressed": 1}
_OTHER_NAME = 2
#: Parts of the names of pictures and clouds that were made of the sensor's own.
_DERIVED = (
    *("depth", "annot", "overlay", "debug", "mask", "segm", "heat", "visual", "infra"),
    *("detect", "result", "preview", "thumb", "track", "cluster", "filter"),
)


def _parts(name: str) -> list[str]:
    """A topic's name without what image_transport adds."""
    parts = [part for part in name.lower().split("/") if part]
    # image_rect_gray too; another word may be the camera's.
    picture = len(parts) > 1 and (parts[-2] in _PICTURES or parts[-2].startswith("image"))
    if picture and parts[-1] == "compressed":
        parts.pop()
    return parts


def namespace(name: str) -> list[str]:
    """Where the topic lies: of ``/cam_front/image_raw/compressed`` that is cam_front."""
    return _parts(name)[:-1]


def picture_rank(name: str) -> int:
    """How well a topic's name fits the camera's own picture, the best is 0."""
    return _PICTURES.get(_parts(name)[-1], _OTHER_NAME)


def derived(name: str) -> bool:
    """Whether a topic's name says that it was made of the sensor's own data."""
    return any(word in name.lower() for word in _DERIVED)


def listed(names: Sequence[str]) -> str:
    """What to say of the topics that a name may have meant."""
    return (
        f"did you mean {' or '.join(names)}?" if len(names) < 4 else f"it has {', '.join(names)}"
    )
