"""What radar_fields a cloud of another maker probably needs: for errors, never for reading."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from crkd_core.sensors import RADAR_FIELDS

#: The largest angle that a radar can mean, radians, with what rounding adds.
AZIMUTH, ELEVATION = 2 * np.pi * 1.0001, np.pi / 2 * 1.0001

#: What makers call the fields, see ``_plain``.
_CALLED = {
    "x": ("x", "posx", "xpos", "positionx", "px"),
    "y": ("y", "posy", "ypos", "positiony", "py"),
    "z": ("z", "posz", "zpos", "positionz", "pz"),
    "range": ("range", "r", "distance", "radius", "frange", "radialdistance", "rho"),
    "azimuth": (
        *("azimuth", "azimuthangle", "angle", "fazimuthangle", "fazimuth", "az"),
        *("azimuthdeg", "azimuthrad"),
    ),
    "elevation": (
        *("elevation", "elevationangle", "felevationangle", "felevation", "el"),
        *("elevationdeg", "elevationrad"),
    ),
    "rcs": ("rcs", "urcs", "frcs", "srcs", "rcsdb", "rcsdbsm", "rcsdbm2", "radarcrosssection"),
    "over_ground": ("vrcompensated", "vrcomp", "dopplercompensated", "vcompensated", "vcomp"),
    "radial": (
        *("vr", "vrad", "vradial", "vrel", "vrelrad", "fvrelrad", "vdoppler", "radialvelocity"),
        *("radialspeed", "speedradial", "velocityradial", "dopplervelocity", "dopplerspeed"),
        *("doppler", "rangerate", "frangerate", "relativespeed", "relativevelocity"),
        *("velocity", "speed", "vel", "v"),
    ),
}


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def suggestion(found: Collection[str], records: NDArray[np.void] | None = None) -> str:
    """The ``radar_fields`` that fields of such names probably need; "": nobody can tell.

    Args:
        found: names of the cloud's fields.
        records: its returns, where they can be read: they may show the unit of angles.
    """
    lower = {_plain(name): name for name in sorted(found)}

    def called(what: str) -> str:
        return next((lower[name] for name in _CALLED[what] if name in lower), "")

    chosen: dict[str, str] = {}
    if not {"x", "y"} <= set(found):
        if called("range") and called("azimuth"):
            chosen |= {what: called(what) for what in ("range", "azimuth", "elevation")}
            chosen = {what: name for what, name in chosen.items() if name}
            limits = {"azimuth": AZIMUTH, "elevation": ELEVATION}
            large = records is not None and any(
                beyond(records[chosen[what]], limit) is not None
                for what, limit in limits.items()
                if what in chosen
            )
            if large or _plain(chosen["azimuth"]).endswith("deg"):
                chosen["degrees"] = "true"
        elif called("x") and called("y"):
            chosen["position"] = " ".join([called("x"), called("y"), called("z")]).strip()
        else:
            return ""
    if "rcs" not in found:
        chosen["rcs"] = called("rcs") or "''"
    unknown: list[str] = []
    if not {"vx_comp", "vy_comp"} <= set(found):
        if over := called("over_ground"):
            chosen |= {"doppler": over, "doppler_compensated": "true"}
        elif {"vx", "vy"} <= set(found):
            chosen |= {"vx_comp": "''", "vy_comp": "''"}
        elif radial := called("radial"):
            chosen["doppler"] = radial
        else:
            known = {*chosen.values(), *RADAR_FIELDS, *chosen.get("position", "").split()}
            unknown = sorted(set(found) - known)
            if not unknown:
                chosen |= dict.fromkeys(("vx_comp", "vy_comp", "vx", "vy"), "''")
    texts = ", ".join(f"{name}: {value}" for name, value in chosen.items())
    hint = f"radar_fields: {{{texts}}}" if texts else "radar_fields.doppler"
    if unknown:
        hint += f", but no speed recognised among: {', '.join(unknown)}; doppler names it, or, "
        hint += "if none is, vx_comp, vy_comp, vx and vy are ''"
    return hint if texts or unknown else ""


def beyond(angles: NDArray[np.void], limit: float) -> float | None:
    """The largest of the finite angles, where it is larger than this; else None."""
    sizes = np.abs(angles.astype(np.float64))
    largest = float(sizes.max(initial=0.0, where=np.isfinite(sizes)))
    return largest if largest > limit else None
