"""Content-addressed stores of Parquet shards, and their rows as image sets."""
