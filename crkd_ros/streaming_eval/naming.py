"""How the node must be told the topics of a bag that has other names than its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import IMAGES
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.streaming_eval.players import SessionError


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What differs from what the node is told anyway.

    Attributes:
        parameters: of the node, above its own.
        remaps: name of the node's own -> name in the bag.
        odometry: topic of odometry in the bag.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    remaps: dict[str, str] = field(default_factory=dict)
    odometry: str = "odom"


def naming(layout: Layout, framing: FramingConfig | None = None) -> Naming:
    """The names of a bag's topics, for the node.

    Args:
        layout: of the bag.
        framing: as the node has it.

    Raises:
        SessionError: some cameras' images are raw and others' compressed, which no parameter says.
    """
    kinds = {topic.type_name for topic in layout.images.values()}
    if len(kinds) > 1:
        groups = (
            f"{kind.rpartition('/')[2]}: "
            + ", ".join(n.lower() for n, t in layout.images.items() if t.type_name == kind)
            for kind in sorted(kinds)
        )
        raise SessionError(
            f"the node takes images of one kind, the bag has {'; '.join(groups)}; convert it "
            "(crkd bag convert), or name topics of one kind (--topic CAM_FRONT=/...)"
        )
    told = framing or FramingConfig()
    transport: Literal["raw", "compressed"] = "raw" if kinds == {IMAGES[1]} else "compressed"
    framing = replace(told, image_transport=transport if kinds else told.image_transport)
    own = {framing.topic(name): topic.name for name, topic in layout.sensors.items()}
    own |= {framing.info_topic(name): topic.name for name, topic in layout.infos.items()}
    odometry = layout.named_odometry or next((one.name for one in layout.odometry), "")
    if odometry:
        own[framing.topics.odometry] = odometry
    return Naming(
        parameters={}
        if framing.image_transport == told.image_transport
        else {"image_transport": transport},
        remaps={name: topic for name, topic in own.items() if f"/{name.lstrip('/')}" != topic},
        odometry=odometry or framing.topics.odometry,
    )
