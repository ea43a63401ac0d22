"""ROS 2 around crkd_core: it translates and never computes."""
