"""Statistics over runs, and the semantic consistency and diversity of generated images."""
