"""The fMRI encoder, the masked autoencoder around it, and the contrastive head."""

from .config import EncoderConfig, MaskedConfig
from .contrastive import ContrastiveConfig, ContrastiveHead, info_nce
from .fmri_encoder import AttentionTensors, FMRIEncoder
from .masked import Masked, MaskedAutoencoder, initialise_encoder
from .patching import Padding, Patching
from .subject import SubjectData

__all__ = [
    "AttentionTensors",
    "ContrastiveConfig",
    "ContrastiveHead",
    "EncoderConfig",
    "FMRIEncoder",
    "Masked",
    "MaskedAutoencoder",
    "MaskedConfig",
    "Padding",
    "Patching",
    "SubjectData",
    "info_nce",
    "initialise_encoder",
]
