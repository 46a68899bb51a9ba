"""Meshes, parcellations, projection and attribution: from one value per patch to a map of the cortex."""

from mindviz.brain.attribution import (
    attention_received,
    attention_rollout,
    patch_sources,
    patches_to_voxels,
    window_attention_received,
)
from mindviz.brain.gifti import write_gifti, write_gifti_maps
from mindviz.brain.made_elsewhere import load_map, load_parcellation
from mindviz.brain.meshes import MESHES, Mesh, Surface, cortex_index, num_vertices, sulcal_depth, surface
from mindviz.brain.parcellations import PARCELLATIONS, Parcellation
from mindviz.brain.projection import Projection, from_cortex, to_cortex

__all__ = [
    "MESHES",
    "PARCELLATIONS",
    "Mesh",
    "Parcellation",
    "Projection",
    "Surface",
    "attention_received",
    "attention_rollout",
    "cortex_index",
    "from_cortex",
    "load_map",
    "load_parcellation",
    "num_vertices",
    "patch_sources",
    "patches_to_voxels",
    "sulcal_depth",
    "surface",
    "to_cortex",
    "window_attention_received",
    "write_gifti",
    "write_gifti_maps",
]
