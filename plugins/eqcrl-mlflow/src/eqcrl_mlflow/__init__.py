"""Runs of eqcrl in MLflow."""
