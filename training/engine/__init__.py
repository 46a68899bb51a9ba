"""The one training loop, its folder on disk, processes and shards."""
