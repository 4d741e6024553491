"""Tables, figures, the HTML report, Weights & Biases."""
