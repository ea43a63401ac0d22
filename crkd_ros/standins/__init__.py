"""The small part that we call of pure-Python ROS packages that no registry carries."""
