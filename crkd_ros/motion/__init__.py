"""Where the sensors sit and how the vehicle moves: poses, odometry, tf, calibration files."""
