"""Commands that measure the node: overhead, endurance, costs, yields, ids."""
