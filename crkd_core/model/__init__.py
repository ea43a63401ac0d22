"""The networks: camera, radar, fusion, head."""
