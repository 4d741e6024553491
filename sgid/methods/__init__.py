"""Generative methods: description of the originals, guidance maps, and requests to an engine."""
