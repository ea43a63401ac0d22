"""Files to arrays to Frames: readers, sensors, batches."""
