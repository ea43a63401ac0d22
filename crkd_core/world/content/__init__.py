"""What stands and moves where: roads, traffic, buildings, and the solids they are made of."""
