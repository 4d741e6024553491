"""The recipe of the bundled images and models: `python -m experiments.models --world WORLD`."""
