"""Runs of eqcrl in Weights & Biases."""
