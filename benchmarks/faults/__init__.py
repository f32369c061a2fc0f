"""What becomes of runs when things go wrong: real processes, real signals, a real full disk."""
