"""View-of-Delft files to Frames: one camera, one 3+1D radar, one LiDAR."""
