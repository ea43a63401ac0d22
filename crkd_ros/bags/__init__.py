"""rosbag2 files of this project's layout: written, read, replayed, described."""
