"""ROS parameters generated out of dataclasses: declared in a node, read from files."""
