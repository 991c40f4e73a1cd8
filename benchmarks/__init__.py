"""Side-by-side measurements of the methods: `make bench`, or `python -m benchmarks --help`."""
