"""Distillation: a frozen teacher, the losses of CRKD, and the shapes between the two networks."""
