"""mindviz: see what a brain saw. MinD-Video (Chen, Qing & Zhou, NeurIPS 2023) as a library and an app."""

__version__ = "0.1.0"
