"""The metrics of View-of-Delft, and evaluations on it."""
