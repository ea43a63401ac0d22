"""LiDAR branch: points to voxels to the bird's-eye view, sparse or by pillars."""
