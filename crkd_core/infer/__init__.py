"""Detector: a Frame in, Detections out."""
