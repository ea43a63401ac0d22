"""Is the calibration plausible? Rules over places, radar returns, Doppler and image motion."""
