"""What a person sees: tables, figures, the HTML report, Weights & Biases."""
