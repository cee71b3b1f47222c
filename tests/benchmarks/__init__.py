"""The benchmarks' arithmetic, and the switches of their server."""
