"""What a radar makes of the street: objects, clutter, states, 125 returns."""
