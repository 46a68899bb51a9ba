"""The fMRI encoder, the masked autoencoder around it, and the contrastive head."""

from mindviz.encoder.config import EncoderConfig, MaskedConfig
from mindviz.encoder.contrastive import ContrastiveConfig, ContrastiveHead, contrastive_loss, info_nce
from mindviz.encoder.fmri_encoder import FMRIEncoder
from mindviz.encoder.masked import Masked, MaskedAutoencoder, initialise_encoder, random_order
from mindviz.encoder.patching import Padding, Patching

__all__ = [
    "ContrastiveConfig",
    "ContrastiveHead",
    "EncoderConfig",
    "FMRIEncoder",
    "Masked",
    "MaskedAutoencoder",
    "MaskedConfig",
    "Padding",
    "Patching",
    "contrastive_loss",
    "info_nce",
    "initialise_encoder",
    "random_order",
]
