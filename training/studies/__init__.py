"""Reports, baselines, ablations and sweeps; each is a command."""
