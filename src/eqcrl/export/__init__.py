"""Policies as files that run without eqcrl."""
