"""Named, frozen configurations of everything that is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mindviz.diffusion import UNetConfig, VAEConfig
from mindviz.diffusion.clip import ClipConfig
from mindviz.encoder import MaskedConfig
from mindviz.extensions.naming import NamerConfig
from mindviz.extensions.questions import QuestionConfig
from mindviz.extensions.sketch import SketchConfig
from mindviz.types import MindvizError, SamplingSettings
from training.engine.loop import LoopConfig
from training.paper.recipe import Recipe
from training.stages.contrast import ContrastConfig


@dataclass(frozen=True)
class PretrainedRecipe:
    """The parts that the paper takes pretrained, and that no hub gives us here: VAE, CLIP and text-to-image U-Net.

    `codec_polish` continues `codec_loop` with latents that are nearly exact, `image_polish` continues `image_loop` with
    channels weighted by their variance (`stages.denoising.denoising_loss`). `more_films` are drawn besides those that
    the subjects saw (`training.demo.more_films`).
    """

    codec: VAEConfig
    codec_loop: LoopConfig
    codec_polish: LoopConfig
    clip: ClipConfig
    clip_loop: LoopConfig
    unet: UNetConfig
    scheduler: dict[str, Any]
    image_loop: LoopConfig
    image_polish: LoopConfig
    more_films: int = 0


DEMO_PRETRAINED = PretrainedRecipe(
    codec=VAEConfig(
        block_out_channels=(128,),
        layers_per_block=1,
        latent_channels=32,
        norm_num_groups=1,
        sample_size=64,
        patch_size=8,
        scaling_factor=1.0,
    ),
    codec_loop=LoopConfig(
        steps=5000,
        batch_size=32,
        lr=3e-4,
        weight_decay=0.0,
        warmup=100,
        ema_decay=0.995,
        mixed_precision="bf16",
        save_every=500,
    ),
    codec_polish=LoopConfig(
        steps=3600,
        batch_size=32,
        lr=3e-4,
        weight_decay=0.0,
        warmup=50,
        ema_decay=0.995,
        seed=1,
        mixed_precision="bf16",
        save_every=600,
    ),
    clip=ClipConfig(patch_size=16, vision_width=128, vision_layers=3, vision_head_width=32, text_layers=2),
    clip_loop=LoopConfig(steps=1200, batch_size=96, lr=1e-3, weight_decay=0.05, warmup=100, save_every=500),
    unet=UNetConfig(
        sample_size=8,
        in_channels=32,
        out_channels=32,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(192, 192),
        layers_per_block=1,
        cross_attention_dim=128,
        num_attention_heads=4,
    ),
    scheduler={
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    },
    image_loop=LoopConfig(
        steps=5000,
        batch_size=32,
        lr=5e-4,
        warmup=200,
        ema_decay=0.999,
        mixed_precision="bf16",
        save_every=1000,
    ),
    image_polish=LoopConfig(
        steps=1200, batch_size=32, lr=2.5e-4, warmup=50, ema_decay=0.995, seed=1, mixed_precision="bf16", save_every=600
    ),
    more_films=160,
)


@dataclass(frozen=True)
class StagesRecipe:
    """The paper's four stages.

    In `sketched_loop` the U-Net learns to paint over sketches of the clips that the subjects saw, in `painting_loops`
    of many more; later loops of a stage go on from the first, each with a new warm-up. `finish_loops` come after the
    four stages (`training.demo.finish`).

    `encoder` and the encoder of `mask_decoder` are stand-ins: each subject's areas of `parcellation` replace their
    patches, and the questions are put in. In `attend_loop` the read-out learns which areas to ask.

    `shared_noise` is that of `mindviz.diffusion.clip_noise` in inflation and co-training, `caption_rate` that of
    `CotrainTask`, `frame_positions` and `sketch` those of `UNetConfig`; the paper has none of them. `sampling` is what
    the demo's checkpoint decodes with unless told otherwise.
    """

    encoder: QuestionConfig
    mask_decoder: MaskedConfig
    mask_loop: LoopConfig
    attend_loop: LoopConfig
    contrast: ContrastConfig
    contrast_loop: LoopConfig
    inflate_loop: LoopConfig
    sketch: SketchConfig
    sketch_loops: tuple[LoopConfig, ...]
    namer: NamerConfig
    name_loop: LoopConfig
    sketched_loop: LoopConfig
    painting_loops: tuple[LoopConfig, ...]
    cotrain_loops: tuple[LoopConfig, ...]
    finish_loops: tuple[LoopConfig, ...]
    shared_noise: float = 0.0
    caption_rate: float = 0.0
    frame_positions: bool = False
    parcellation: str = "hcp-mmp"
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def __post_init__(self) -> None:
        words = self.encoder.num_tokens - 1
        if self.sketch.words != words:
            raise MindvizError(
                f"recipe: expected a sketch that hears the {words} words of the encoder ({self.encoder.num_tokens} "
                f"tokens, the last of them the layout), found {self.sketch.words}"
            )


_DEMO_ENCODER = QuestionConfig(
    num_voxels=3008,
    patch_size=32,
    embed_dim=64,
    depth=2,
    num_heads=4,
    num_tokens=17,
    token_dim=128,
    patch_embedding="per_patch",
    dropout=0.1,
)

_DEMO_COTRAIN = LoopConfig(
    steps=900, batch_size=8, lr=2e-4, warmup=50, ema_decay=0.995, mixed_precision="bf16", save_every=200
)

_SKETCH_LOOP = LoopConfig(
    steps=8000, batch_size=128, lr=8e-4, weight_decay=0.01, warmup=50, ema_decay=0.998, save_every=1000
)

ATTEND_LOOP = LoopConfig(steps=300, batch_size=256, lr=0.03, weight_decay=0.0, warmup=20, save_every=300)

DEMO_STAGES: StagesRecipe = StagesRecipe(
    encoder=_DEMO_ENCODER,
    mask_decoder=MaskedConfig(encoder=_DEMO_ENCODER, mask_ratio=0.75, decoder_dim=64, decoder_depth=1, decoder_heads=4),
    mask_loop=LoopConfig(steps=300, batch_size=64, lr=1e-3, weight_decay=0.05, warmup=40, grad_clip=0.8),
    attend_loop=ATTEND_LOOP,
    contrast=ContrastConfig(contrast_weight=0.1, token_weight=5.0),
    contrast_loop=LoopConfig(
        steps=1600,
        batch_size=32,
        lr=5e-4,
        weight_decay=0.1,
        warmup=100,
        ema_decay=0.99,
        mixed_precision="bf16",
        save_every=200,
    ),
    inflate_loop=replace(_DEMO_COTRAIN, steps=4400, lr=4e-4, warmup=100, ema_decay=0.998),
    sketch=SketchConfig(),
    sketch_loops=(
        replace(_SKETCH_LOOP, steps=12000, lr=1e-3, warmup=100),
        replace(_SKETCH_LOOP, steps=8000, lr=8e-4, seed=1),
    ),
    namer=NamerConfig(),
    name_loop=LoopConfig(
        steps=16000, batch_size=256, lr=2e-3, weight_decay=0.01, warmup=200, ema_decay=0.995, save_every=2000
    ),
    sketched_loop=replace(_DEMO_COTRAIN, steps=1000, lr=4e-4),
    painting_loops=(replace(_DEMO_COTRAIN, steps=3000, lr=4e-4),),
    cotrain_loops=(replace(_DEMO_COTRAIN, steps=400, lr=1e-4),),
    finish_loops=(
        replace(_DEMO_COTRAIN, steps=1400, batch_size=48, lr=3e-4),
        replace(_DEMO_COTRAIN, steps=2400, batch_size=48, lr=3e-4, seed=1),
    ),
    shared_noise=0.5,
    caption_rate=0.5,
    frame_positions=True,
    sampling=SamplingSettings(
        num_inference_steps=2,
        guidance_scale=1.5,
        shared_noise=0.5,
        sketch_guidance=2.0,
        sketch_draws=32,
        name_sketch=True,
    ),
)

JUDGE_FILMS = 24
JUDGE_LOOP = LoopConfig(steps=1200, batch_size=32, lr=2e-3, weight_decay=0.02)

OWN_DATA = Recipe(
    encoder=replace(DEMO_STAGES.encoder, num_tokens=16),  # a world of one's own has no sketch
    masked=replace(DEMO_STAGES.mask_decoder, encoder=replace(_DEMO_ENCODER, num_tokens=16)),
    mask=DEMO_STAGES.mask_loop,
    mask_subject=DEMO_STAGES.mask_loop,
    contrast=DEMO_STAGES.contrast_loop,
    inflate=DEMO_STAGES.inflate_loop,
    cotrain=DEMO_STAGES.cotrain_loops[0],
    contrast_config=DEMO_STAGES.contrast,
    image_size=64,
    one_caption=True,
    token_weight=0.1,
    shared_noise=DEMO_STAGES.shared_noise,
    frame_positions=DEMO_STAGES.frame_positions,
    sampling=DEMO_STAGES.sampling,
)
"""The demo's sizes for `python -m training.stage --recipe demo` on a dataset of one's own."""
