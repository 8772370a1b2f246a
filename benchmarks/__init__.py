"""What it costs: ``python -m benchmarks`` measures, prints a table, and writes figures and plots."""
