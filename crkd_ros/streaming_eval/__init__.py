"""The node under a bag played in real time, and its streaming metrics."""
