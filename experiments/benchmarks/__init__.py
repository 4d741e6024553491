"""Benchmarks against what others do: one module per question, side by side in one run.

    python -m experiments.benchmarks.generation    a table and a picture below results/benchmarks/

Absolute times of a shared machine mean little. So all arms of a benchmark run in one process, in
turn, for several rounds; the result is the median over the rounds, and the median of the rounds'
ratios.
"""
