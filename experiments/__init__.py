"""One file per table or figure, the recipe of the bundled models, and the log of what was tried."""
