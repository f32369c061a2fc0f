"""What a GPU would do with our programs, counted on a machine without one: `python -m benchmarks.aot`."""
