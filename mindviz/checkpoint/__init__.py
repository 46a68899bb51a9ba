"""Checkpoints: the folder on disk, one subject's part of it, and loading it into memory."""
