"""Benchmarks: ours and a plain baseline in turns, in one process. `nox -s bench`; docs/performance.md explains."""
