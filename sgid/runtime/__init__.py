"""The machine below: device, batches, threads, files, terminal, signals and launchers."""
