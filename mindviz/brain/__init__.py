"""Meshes, parcellations, projection and file formats: from one value per voxel to a map on the cortex."""

from mindviz.brain.files.gifti import write_gifti, write_gifti_maps
from mindviz.brain.files.own_maps import load_map, load_parcellation
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
    "cortex_index",
    "from_cortex",
    "load_map",
    "load_parcellation",
    "num_vertices",
    "sulcal_depth",
    "surface",
    "to_cortex",
    "write_gifti",
    "write_gifti_maps",
]
