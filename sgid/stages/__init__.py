"""The stages of a run, one file each: what `stage=` picks."""
