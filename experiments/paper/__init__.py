"""The paper's tables and figures: `python -m experiments.paper`."""
