"""Distillation: frozen teachers, the losses of each method, and what lies between the networks."""
