"""Settings and data that several test files share."""

from __future__ import annotations

import os

# Every pytest-xdist worker is its own ROS network, and so are two runs at the same time: nodes of
# one test must not hear those of another. 0 to 101 are the domains that Linux's ports allow.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_RUN = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
os.environ["ROS_DOMAIN_ID"] = str(1 + (2 * _RUN + _WORKER) % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
