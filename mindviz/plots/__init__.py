"""Figures of a cortical map: on the cortex (matplotlib) and by network (plotly, matplotlib)."""

from mindviz.plots.cortex import plot_cortex, save_figure
from mindviz.plots.networks import network_bars, network_means, plot_networks

__all__ = ["network_bars", "network_means", "plot_cortex", "plot_networks", "save_figure"]
