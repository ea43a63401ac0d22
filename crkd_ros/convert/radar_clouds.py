"""PointCloud2 of any radar to the 18 columns of a nuScenes sweep.

Which field is what is a parameter (RadarFieldsConfig); docs/ros.md, "Radars of other makers", has
the table.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.radar import USED, kept_returns
from crkd_core.sensors import (
    RADAR_COLUMN,
    RADAR_COMPENSATED,
    RADAR_DEFAULTS,
    RADAR_FIELDS,
    RADAR_VELOCITY,
    RADAR_XYZ,
    RADARS,
)
from crkd_ros.convert.arrays import ConvertError, check_cloud, cloud_records
from crkd_ros.convert.radar_field_advice import AZIMUTH, ELEVATION, beyond, suggestion
from crkd_ros.parameters.knobs import (
    ParameterError,
    check,
    check_overrides,
    knob,
    of_one,
    override_knob,
)


@dataclass(frozen=True, kw_only=True)
class RadarFieldsConfig:
    """Field names of the radars' clouds. The coded fields of nuScenes keep their names.

    ``of`` has those of one radar.
    """

    #: Together: YAML reads a lone y as true.
    position: str = knob(
        "x y z", "Fields of x, forward, y, left, and z, up, m; without the third, heights are 0"
    )
    rcs: str = knob("rcs", "Field of the radar cross-section, dBsm; empty: use default_rcs")
    vx_comp: str = knob(
        "vx_comp", "Field of the velocity along x without ego motion, m/s; empty: none"
    )
    vy_comp: str = knob(
        "vy_comp", "Field of the velocity along y without ego motion, m/s; empty: none"
    )
    vx: str = knob("vx", "Field of the velocity along x relative to the radar, m/s; empty: none")
    vy: str = knob("vy", "Field of the velocity along y relative to the radar, m/s; empty: none")
    range: str = knob("", "Field of the distance, m, read with azimuth instead of position")
    azimuth: str = knob("", "Field of the angle from ahead to the left, radians")
    elevation: str = knob("", "Field of the angle upwards, radians; empty: 0")
    degrees: bool = knob(False, "Angles are in degrees")
    clockwise: bool = knob(False, "The azimuth is positive to the right")
    doppler: str = knob("", "Field of the radial speed, m/s, read instead of the velocities")
    doppler_compensated: bool = knob(False, "The radial speed is without ego motion")
    doppler_approaching: bool = knob(False, "The radial speed is positive for what comes closer")
    default_rcs: float = knob(
        5.0, "Radar cross-section of every return where there is no field, dBsm", low=-50, high=50
    )
    #: "RADAR_FRONT.rcs" -> what holds for this radar alone.
    of_radars: Mapping[str, Any] = override_knob(RADARS)

    def __post_init__(self) -> None:
        check(self, "radar_fields.")
        if len(self.position.split()) not in (2, 3):
            raise ParameterError(
                "radar_fields.position: expected two or three names of fields, such as 'x y z', "
                f"got {self.position!r}"
            )
        for one, other in (("vx_comp", "vy_comp"), ("vx", "vy")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ParameterError(
                    f"radar_fields: {one} and {other} must both name a field or both be empty"
                )
        if bool(self.range) != bool(self.azimuth) or (self.elevation and not self.range):
            raise ParameterError(
                "radar_fields: range and azimuth belong together, and elevation to them; got "
                f"range {self.range!r}, azimuth {self.azimuth!r}, elevation {self.elevation!r}"
            )
        check_overrides(self, "of_radars")

    def of(self, radar: str) -> RadarFieldsConfig:
        """What holds for one radar: the names of all, and in their place those of this one."""
        return of_one(self, "of_radars", radar)

    @property
    def x(self) -> str:
        """Name of the field of x."""
        return self.position.split()[0]

    @property
    def y(self) -> str:
        """Name of the field of y."""
        return self.position.split()[1]

    @property
    def z(self) -> str:
        """Name of the field of z; empty: none."""
        return " ".join(self.position.split()[2:])

    @property
    def relative(self) -> bool:
        """Whether speeds are relative to the radar, so that ego motion must be taken out."""
        if self.doppler:
            return not self.doppler_compensated
        return not (self.vx_comp and self.vy_comp) and bool(self.vx and self.vy)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One radar sweep in frame ``frame_id``.

    Attributes:
        points: float32 [N, 18], columns RADAR_FIELDS.
        relative: vx_comp and vy_comp are still relative to the radar; see ``compensated``.
    """

    points: NDArray[np.float32]
    frame_id: str
    relative: bool = False

    def compensated(self, velocity: NDArray[np.floating]) -> Sweep:
        """The same sweep over ground.

        Args:
            velocity: [3] of the radar over ground, m/s, in its own axes.
        """
        rays = _rays(self.points[:, RADAR_XYZ])
        along = (self.points[:, RADAR_COMPENSATED] * rays[:, :2]).sum(1)
        points = self.points.copy()
        # What a Doppler radar measures is the speed along the ray; all else is not known.
        horizontal = np.maximum(np.square(rays[:, :2]).sum(1), 1e-6)
        speed = along / horizontal + rays @ np.asarray(velocity, np.float32)
        points[:, RADAR_COMPENSATED] = speed[:, None] * rays[:, :2]
        return dataclasses.replace(self, points=points, relative=False)


def sweep(message: Any, *, radar: str, fields: RadarFieldsConfig | None = None) -> Sweep:
    """A PointCloud2 of any field order, datatypes, step and byte order as one radar sweep.

    Raises:
        ConvertError: a field is missing (the text lists the fields found), or the cloud's sizes
            contradict each other, or its angles are in degrees and ``degrees`` is false.
    """
    fields = fields or RadarFieldsConfig()
    return Sweep(
        points=radar_points(message, source=radar, fields=fields),
        frame_id=message.header.frame_id or radar.lower(),
        relative=fields.relative,
    )


def radar_points(
    message: Any, *, source: str = "radar", fields: RadarFieldsConfig | None = None
) -> NDArray[np.float32]:
    """Points of a radar cloud, float32 [N, 18], columns RADAR_FIELDS; see ``sweep``.

    Rows that are no returns are left out as in files, see ``data.radar.kept_returns``. A cloud
    without points needs no fields.

    Raises:
        ConvertError: see ``sweep``; or returns have places, and every one is left out for another
            column.
    """
    fields = fields or RadarFieldsConfig()
    if not len(message.fields) and not message.width * message.height:
        # What many drivers publish of a sweep without a return.
        return np.zeros((0, len(RADAR_FIELDS)), np.float32)
    if not all(field.count for field in message.fields):
        check_cloud(message, source)
    found = frozenset(field.name for field in message.fields if field.count == 1)
    names, missing = _names(found, fields)
    if missing:
        raise ConvertError(f"{source}: {_lacking(message, found, missing)}")
    records = cloud_records(message, source=source)
    points = np.zeros((len(records), len(RADAR_FIELDS)), np.float32)
    points[:, RADAR_COLUMN["rcs"]] = fields.default_rcs
    for name, value in RADAR_DEFAULTS.items():
        points[:, RADAR_COLUMN[name]] = value
    # A double beyond float32 becomes an infinity, which is dropped below.
    with np.errstate(over="ignore", invalid="ignore"):
        for column, name in names.items():
            points[:, RADAR_COLUMN[column]] = records[name]
        if fields.range:
            points[:, RADAR_XYZ] = _places(records, fields, source)
        # A radar that measures no height may say so by NaN; rays need a number.
        height = points[:, RADAR_COLUMN["z"]]
        height[np.isnan(height)] = 0.0
        if fields.doppler:
            radial = records[fields.doppler].astype(np.float32)
            radial = -radial if fields.doppler_approaching else radial
            points[:, RADAR_COMPENSATED] = radial[:, None] * _rays(points[:, RADAR_XYZ])[:, :2]
        elif fields.relative:
            rays = _rays(points[:, RADAR_XYZ])
            radial = (points[:, RADAR_VELOCITY] * rays[:, :2]).sum(1)
            points[:, RADAR_COMPENSATED] = radial[:, None] * rays[:, :2]
        for column, instead in (("vx", "vx_comp"), ("vy", "vy_comp")):
            if column not in names:
                points[:, RADAR_COLUMN[column]] = points[:, RADAR_COLUMN[instead]]
    kept = kept_returns(points)
    placed = points[np.isfinite(points[:, RADAR_XYZ]).all(1)]
    if len(placed) and not len(kept):
        bad = ~np.all(np.isfinite(placed), axis=0)
        wrong = [RADAR_FIELDS[i] for i in np.flatnonzero(bad) if RADAR_FIELDS[i] in USED]
        raise ConvertError(
            f"{source}: {len(placed)} returns, and not one has a finite {', '.join(wrong)}; "
            "radar_fields.* name the fields that are read"
        )
    return kept


def _places(
    records: NDArray[np.void], fields: RadarFieldsConfig, source: str
) -> NDArray[np.float32]:
    """x, y, z [N, 3] of polar coordinates. Raises ConvertError: angles in another unit."""
    if not fields.degrees:
        for name, limit in ((fields.azimuth, AZIMUTH), (fields.elevation, ELEVATION)):
            if name and (largest := beyond(records[name], limit)) is not None:
                raise ConvertError(
                    f"{source}: expected {name} in radians, at most {limit:.2f}, got "
                    f"{largest:.4g}; is it in degrees? then set radar_fields.degrees: true"
                )
    distance = records[fields.range].astype(np.float64)
    unit = np.pi / 180 if fields.degrees else 1.0
    azimuth = records[fields.azimuth].astype(np.float64) * (-unit if fields.clockwise else unit)
    elevation = np.zeros(len(records))
    if fields.elevation:
        elevation = np.nan_to_num(records[fields.elevation].astype(np.float64) * unit, nan=0.0)
    ground = distance * np.cos(elevation)
    places = [ground * np.cos(azimuth), ground * np.sin(azimuth), distance * np.sin(elevation)]
    return np.stack(places, 1).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _names(
    found: frozenset[str], fields: RadarFieldsConfig
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Column -> field of a cloud with these fields, for the columns that are copied.

    And what is wanted and is not there.
    """
    wanted = {name: getattr(fields, name) for name in ("x", "y", "z", "rcs", "vx", "vy")}
    if not fields.doppler:
        wanted |= {name: getattr(fields, name) for name in ("vx_comp", "vy_comp")}
    polar = {fields.range, fields.azimuth, fields.elevation} - {""}
    if polar:
        for name in ("x", "y", "z"):
            del wanted[name]
    optional = {"z"} if fields.z == "z" else set()
    if not fields.relative or fields.doppler:
        optional |= {name for name in ("vx", "vy") if wanted[name] == name}
    needed = {wanted[name] for name in wanted if wanted[name] and name not in optional}
    needed |= polar or {fields.x, fields.y}
    missing = sorted((needed | {fields.doppler}) - {""} - found)
    wanted |= {name: name for name in RADAR_DEFAULTS}
    # A field without a name is padding, and '' asks for none.
    copied = {column: name for column, name in wanted.items() if name and name in found}
    return copied, tuple(missing)


def _lacking(message: Any, found: Collection[str], missing: Collection[str]) -> str:
    """The error of a cloud that lacks these fields, with what to set instead."""
    try:
        hint = suggestion(found, cloud_records(message, source=""))
    except ConvertError:
        hint = suggestion(found)
    names = ", ".join(sorted(found)) or "no fields"
    return (
        f"radar cloud lacks {', '.join(missing)}; found {names}; "
        "radar_fields.* name the fields of your radars (doppler: one with radial speed), "
        "radar_fields.RADAR_FRONT.* those of this radar alone"
        + (f"; perhaps {hint}" if hint else "")
    )


def _rays(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors [N, 3] from the radar to its returns; zeros for a return at the radar."""
    distance = np.linalg.norm(positions, axis=1, keepdims=True)
    return np.divide(positions, distance, out=np.zeros_like(positions), where=distance > 0)
