"""One web page about training runs: scores, curves, pictures, what the losses see, a player."""
