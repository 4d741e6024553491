"""Review of generated images by people: accept or reject each, in the browser."""
