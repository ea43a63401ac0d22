"""Messages to arrays and back, in one place, with installed ROS packages or their stand-ins."""
