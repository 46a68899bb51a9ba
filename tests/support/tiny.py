"""Sizes at which the real classes run in moments; tests that need another size `dataclasses.replace` it."""

from mindviz.diffusion import UNetConfig, VAEConfig

UNET = UNetConfig(
    sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(8, 16),
    layers_per_block=1,
    cross_attention_dim=8,
    num_attention_heads=2,
    norm_num_groups=4,
)
VAE = VAEConfig(block_out_channels=(16,), norm_num_groups=4, sample_size=8, patch_size=8)
