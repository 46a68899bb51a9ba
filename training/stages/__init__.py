"""The paper's four stages, and nothing else."""
