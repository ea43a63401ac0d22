"""Which messages form a frame: pure policy over stamps, shared by node and replay."""
