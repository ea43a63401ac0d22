"""The parts we call of two pure-Python ROS packages that no registry carries, same signatures.

Written from their documented behaviour. ``crkd_ros.convert.ros_packages`` alone decides when they
are used.
"""
