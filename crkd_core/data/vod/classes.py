"""What View-of-Delft calls things.

A. Palffy et al., "Multi-Class Road User Detection With 3+1D Radar in the View-of-Delft Dataset",
RA-L 2022, section III; names as in the label files.
"""

from __future__ import annotations

#: The thirteen classes that are annotated.
VOD_CLASSES = (
    *("Car", "Pedestrian", "Cyclist", "rider", "bicycle", "bicycle_rack", "human_depiction"),
    *("moped_scooter", "motor", "ride_other", "ride_uncertain", "truck", "vehicle_other"),
)

#: Those that the benchmark scores.
VOD_SCORED = ("Car", "Pedestrian", "Cyclist")

#: What a label file may hold beside the classes: an area of the image in which nothing counts.
DONT_CARE = "DontCare"
