"""Step 1 of SGID: captions, their similarity to the image, the prompt and the guidance scale."""
