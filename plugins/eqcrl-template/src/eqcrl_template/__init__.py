"""One environment and one energy for eqcrl, to copy and change."""
