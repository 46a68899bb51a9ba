"""An independent oracle: the published models as plain functions of a state dict, written from the facts in the design.

It calls no class of mindviz or diffusers; it makes random weights under the published names, runs them, and writes a
folder like those of the authors.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

State = dict[str, torch.Tensor]


class Weights:
    """Random weights, made when their name is first read: the functions below are their own specification."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, *shape: int, fan_in: int = 0, around: float = 0.0) -> torch.Tensor:
        if name not in self.state:
            scale = (fan_in or 25) ** -0.5
            self.state[name] = around + scale * torch.randn(shape, generator=self.generator)
        return self.state[name]

    def linear(self, name: str, x: torch.Tensor, out: int, bias: bool = True) -> torch.Tensor:
        n = x.shape[-1]
        return F.linear(x, self(f"{name}.weight", out, n, fan_in=n), self(f"{name}.bias", out) if bias else None)

    def conv(self, name: str, x: torch.Tensor, out: int, kernel: int = 3, stride: int = 1) -> torch.Tensor:
        n = x.shape[1]
        weight = self(f"{name}.weight", out, n, kernel, kernel, fan_in=n * kernel**2)
        return F.conv2d(x, weight, self(f"{name}.bias", out), stride, kernel // 2)

    def layer_norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[-1]
        return F.layer_norm(x, (n,), self(f"{name}.weight", n, around=1.0), self(f"{name}.bias", n), 1e-5)

    def group_norm(self, name: str, x: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
        n = x.shape[1]
        return F.group_norm(x, groups, self(f"{name}.weight", n, around=1.0), self(f"{name}.bias", n), eps)


def softmax_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, L, D) and (N, M, D) -> (N, L, D) and the softmax (N, A, L, M)."""
    split = [x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2) for x in (q, k, v)]
    soft = (split[0] @ split[1].transpose(2, 3) / math.sqrt(split[0].shape[3])).softmax(3)
    return (soft @ split[2]).transpose(1, 2).reshape(q.shape), soft


# ---------------------------------------------------------------------- the encoder
def encoder(w: Weights, c: dict, fmri: torch.Tensor) -> tuple[torch.Tensor, State]:
    """Tokens, and the attentions divided by the norm of their rows."""
    batch, scans, voxels = fmri.shape
    dim, heads, patches = c["embed_dim"], c["num_heads"], voxels // c["patch_size"]
    w("cls_token", 1, 1, dim), w("mask_token", 1, 1, dim), w("logit_scale")
    x = fmri.reshape(batch * scans, patches, c["patch_size"])
    kernel = w("patch_embed.proj.weight", dim, 1, c["patch_size"])
    x = x @ kernel[:, 0].T + w("patch_embed.proj.bias", dim) + w("pos_embed", 1, patches + 1, dim)[:, 1:]
    attention: State = {}

    def attend(name: str, x: torch.Tensor, label: str) -> torch.Tensor:
        q, k, v = w.linear(f"{name}.qkv", x, 3 * dim).chunk(3, dim=-1)
        out, soft = softmax_attention(q, k, v, heads)
        attention[label] = soft / soft.square().sum(-1, keepdim=True).sqrt()
        return w.linear(f"{name}.proj", out, dim)

    for i in range(c["depth"]):
        name = f"blocks.{i}"
        x = x + attend(f"{name}.attn", w.layer_norm(f"{name}.norm1", x), f"attn_spatial_{i}")
        if c["use_temp_attn"]:
            x = x.reshape(batch, scans, patches, dim).transpose(1, 2).reshape(batch * patches, scans, dim)
            x = x + attend(f"{name}.attn_temp", w.layer_norm(f"{name}.norm_temp", x), f"attn_temporal_{i}")
            x = x.reshape(batch, patches, scans, dim).transpose(1, 2).reshape(batch * scans, patches, dim)
        hidden = w.linear(f"{name}.mlp.fc1", w.layer_norm(f"{name}.norm2", x), int(dim * c["mlp_ratio"]))
        x = x + w.linear(f"{name}.mlp.fc2", F.gelu(hidden), dim)
    x = w.layer_norm("norm", x).reshape(batch, scans * patches, dim)
    x = torch.einsum("sn,bnd->bsd", w("proj_head.channel_mapper.weight", c["out_channel"], scans * patches), x)
    projected = w.linear("proj_head.projection", x, c["out_dim"], bias=False)
    tokens = w.linear("proj_head.fc", F.gelu(projected), c["out_dim"], bias=False) + projected
    return (w.layer_norm("proj_head.layer_norm", tokens) if c["use_norm"] else tokens), attention


# ---------------------------------------------------------------------- the inflated U-Net; frames lie in the batch
class UNet:
    """One pass over `frames` frames."""

    def __init__(self, w: Weights, c: dict, frames: int) -> None:
        self.w, self.c, self.frames = w, c, frames

    def clip_norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        n, channels, height, width = x.shape
        clip = x.reshape(n // self.frames, self.frames, channels, height, width).transpose(1, 2)
        out = self.w.group_norm(name, clip, self.c["norm_num_groups"], self.c["norm_eps"])
        return out.transpose(1, 2).reshape(x.shape)

    def resnet(self, name: str, x: torch.Tensor, time: torch.Tensor, out: int) -> torch.Tensor:
        h = self.w.conv(f"{name}.conv1", F.silu(self.clip_norm(f"{name}.norm1", x)), out)
        h = h + self.w.linear(f"{name}.time_emb_proj", F.silu(time), out)[:, :, None, None]
        h = self.w.conv(f"{name}.conv2", F.silu(self.clip_norm(f"{name}.norm2", h)), out)
        return h + (self.w.conv(f"{name}.conv_shortcut", x, out, kernel=1) if x.shape[1] != out else x)

    def attend(self, name: str, x: torch.Tensor, kind: str, tokens: torch.Tensor | None = None) -> torch.Tensor:
        dim, f, w = x.shape[-1], self.frames, self.w
        source = x if tokens is None else tokens
        q, k, v = (
            w.linear(f"{name}.to_{n}", s, dim, bias=False) for n, s in zip("qkv", (x, source, source), strict=True)
        )
        if kind == "sparse":
            first, second = ([max(i - back, 0) for i in range(f)] for back in (2, 1))
            k, v = (
                torch.cat(
                    [y.reshape(-1, f, *y.shape[1:])[:, first], y.reshape(-1, f, *y.shape[1:])[:, second]], 2
                ).flatten(0, 1)
                for y in (k, v)
            )
        return w.linear(f"{name}.to_out.0", softmax_attention(q, k, v, self.c["attention_head_dim"])[0], dim)

    def transformer(self, name: str, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        n, dim, height, width = x.shape
        w, block, f = self.w, f"{name}.transformer_blocks.0", self.frames
        h = w.conv(f"{name}.proj_in", w.group_norm(f"{name}.norm", x, self.c["norm_num_groups"], 1e-6), dim, kernel=1)
        h = h.flatten(2).transpose(1, 2)
        h = h + self.attend(f"{block}.attn1", w.layer_norm(f"{block}.norm1", h), "sparse")
        h = h + self.attend(f"{block}.attn2", w.layer_norm(f"{block}.norm2", h), "cross", tokens)
        value, gate = w.linear(f"{block}.ff.net.0.proj", w.layer_norm(f"{block}.norm3", h), 8 * dim).chunk(2, -1)
        h = h + w.linear(f"{block}.ff.net.2", value * F.gelu(gate), dim)
        rows = h.reshape(n // f, f, height * width, dim).transpose(1, 2).reshape(-1, f, dim)
        rows = rows + self.attend(f"{block}.attn_temp", w.layer_norm(f"{block}.norm_temp", rows), "temporal")
        h = rows.reshape(n // f, height * width, f, dim).transpose(1, 2).reshape(n, height * width, dim)
        return x + w.conv(f"{name}.proj_out", h.transpose(1, 2).reshape(x.shape), dim, kernel=1)

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        w, c, f = self.w, self.c, self.frames
        widths, layers = c["block_out_channels"], c["layers_per_block"]
        x = latents.transpose(1, 2).flatten(0, 1)
        tokens = tokens.repeat_interleave(f, 0)
        half = widths[0] // 2
        angle = timestep.expand(len(latents)).float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = torch.cat([angle.cos(), angle.sin()], 1)
        time = w.linear("time_embedding.linear_1", time, 4 * widths[0])
        time = w.linear("time_embedding.linear_2", F.silu(time), 4 * widths[0]).repeat_interleave(f, 0)
        x = w.conv("conv_in", x, widths[0])
        kept = [x]
        for i, (kind, width) in enumerate(zip(c["down_block_types"], widths, strict=True)):
            for j in range(layers):
                x = self.resnet(f"down_blocks.{i}.resnets.{j}", x, time, width)
                x = self.transformer(f"down_blocks.{i}.attentions.{j}", x, tokens) if "CrossAttn" in kind else x
                kept.append(x)
            if i < len(widths) - 1:
                x = w.conv(f"down_blocks.{i}.downsamplers.0.conv", x, width, stride=2)
                kept.append(x)
        x = self.resnet("mid_block.resnets.0", x, time, widths[-1])
        x = self.resnet("mid_block.resnets.1", self.transformer("mid_block.attentions.0", x, tokens), time, widths[-1])
        for i, (kind, width) in enumerate(zip(c["up_block_types"], reversed(widths), strict=True)):
            for j in range(layers + 1):
                x = self.resnet(f"up_blocks.{i}.resnets.{j}", torch.cat([x, kept.pop()], 1), time, width)
                x = self.transformer(f"up_blocks.{i}.attentions.{j}", x, tokens) if "CrossAttn" in kind else x
            if i < len(widths) - 1:
                x = w.conv(f"up_blocks.{i}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0), width)
        x = w.conv("conv_out", F.silu(self.clip_norm("conv_norm_out", x)), c["out_channels"])
        return x.reshape(len(latents), f, *x.shape[1:]).transpose(1, 2)


# ---------------------------------------------------------------------- the VAE, under old attention names
class VAE:
    """Only the decoder is run for a result; the encoder is run once, to give the file its weights."""

    def __init__(self, w: Weights, c: dict) -> None:
        self.w, self.c = w, c

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.w.group_norm(name, x, self.c["norm_num_groups"], 1e-6)

    def resnet(self, name: str, x: torch.Tensor, out: int) -> torch.Tensor:
        h = self.w.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)), out)
        h = self.w.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)), out)
        return h + (self.w.conv(f"{name}.conv_shortcut", x, out, kernel=1) if x.shape[1] != out else x)

    def middle(self, side: str, x: torch.Tensor) -> torch.Tensor:
        x, name = self.resnet(f"{side}.mid_block.resnets.0", x, x.shape[1]), f"{side}.mid_block.attentions.0"
        flat = self.norm(f"{name}.group_norm", x).flatten(2).transpose(1, 2)
        q, k, v = (self.w.linear(f"{name}.{n}", flat, x.shape[1]) for n in ("query", "key", "value"))
        out = self.w.linear(f"{name}.proj_attn", softmax_attention(q, k, v, 1)[0], x.shape[1])
        return self.resnet(f"{side}.mid_block.resnets.1", x + out.transpose(1, 2).reshape(x.shape), x.shape[1])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        widths, w = self.c["block_out_channels"], self.w
        x = w.conv("encoder.conv_in", x, widths[0])
        for i, width in enumerate(widths):
            for j in range(self.c["layers_per_block"]):
                x = self.resnet(f"encoder.down_blocks.{i}.resnets.{j}", x, width)
            if i < len(widths) - 1:
                padded = F.pad(x, (0, 1, 0, 1))
                x = w.conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", padded, width, stride=2)
        x = F.silu(self.norm("encoder.conv_norm_out", self.middle("encoder", x)))
        return w.conv(
            "quant_conv", w.conv("encoder.conv_out", x, 2 * self.c["latent_channels"]), 2 * self.c["latent_channels"], 1
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, F, h, w) -> (B, 3, F, H, W) in 0..1."""
        widths, w = self.c["block_out_channels"][::-1], self.w
        x = latents.transpose(1, 2).flatten(0, 1) / 0.18215
        x = w.conv("decoder.conv_in", w.conv("post_quant_conv", x, x.shape[1], kernel=1), widths[0])
        x = self.middle("decoder", x)
        for i, width in enumerate(widths):
            for j in range(self.c["layers_per_block"] + 1):
                x = self.resnet(f"decoder.up_blocks.{i}.resnets.{j}", x, width)
            if i < len(widths) - 1:
                x = w.conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0), width)
        x = w.conv("decoder.conv_out", F.silu(self.norm("decoder.conv_norm_out", x)), 3)
        x = x.reshape(len(latents), latents.shape[2], *x.shape[1:]).transpose(1, 2)
        return (x / 2 + 0.5).clamp(0, 1)


# ---------------------------------------------------------------------- schedules (Song et al. 2021; Liu et al. 2022)
def alphas() -> torch.Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, 0)


def ddim(denoise, x: torch.Tensor, steps: int) -> torch.Tensor:
    a, stride = alphas(), 1000 // steps
    for t in reversed([i * stride + 1 for i in range(steps)]):
        before = a[t - stride] if t - stride >= 0 else a[0]
        e = denoise(x, torch.tensor(t))
        x0 = (x - (1 - a[t]).sqrt() * e) / a[t].sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * e
    return x


def pndm(denoise, x: torch.Tensor, steps: int) -> torch.Tensor:
    a, stride = alphas(), 1000 // steps

    def move(x: torch.Tensor, t: int, e: torch.Tensor) -> torch.Tensor:
        now, before = a[t], a[t - stride] if t - stride >= 0 else a[0]
        lower = now * (1 - before).sqrt() + (now * (1 - now) * before).sqrt()
        return (before / now).sqrt() * x - (before - now) * e / lower

    times = [i * stride + 1 for i in range(steps)][::-1]
    history = [denoise(x, torch.tensor(times[0]))]
    guess = move(x, times[0], history[0])
    second = denoise(guess, torch.tensor(times[0] - stride))
    x = move(x, times[0], (history[0] + second) / 2)
    for t in times[1:]:
        history = [*history, denoise(x, torch.tensor(t))][-4:]
        rows = {2: (3, -1, 2), 3: (23, -16, 5, 12), 4: (55, -59, 37, -9, 24)}[len(history)]
        e = sum(c * h for c, h in zip(rows[:-1], reversed(history), strict=True)) / rows[-1]
        x = move(x, t, e)
    return x


# ---------------------------------------------------------------------- a folder
ENCODER = {
    "_class_name": "fMRIEncoder",
    "_diffusers_version": "0.16.1",
    "depth": 2,
    "dropout": 0.0,
    "embed_dim": 16,
    "in_chans": 1,
    "logit_scale_init_value": 1.0,
    "mlp_ratio": 1.0,
    "num_heads": 2,
    "num_voxels": 96,
    "out_channel": 5,
    "out_dim": 12,
    "patch_size": 16,
    "use_norm": False,
    "use_temp_attn": True,
    "window_size": 2,
}
UNET = {
    "_class_name": "UNet3DConditionModel",
    "_diffusers_version": "0.16.1",
    "act_fn": "silu",
    "attention_head_dim": 2,
    "block_out_channels": [8, 16],
    "center_input_sample": False,
    "class_embed_type": None,
    "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 4,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "resnet_time_scale_shift": "default",
    "sample_size": 8,
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "upcast_attention": False,
    "use_linear_projection": False,
}
VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.16.1",
    "act_fn": "silu",
    "block_out_channels": [4, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "out_channels": 3,
    "sample_size": 16,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
SCHEDULE = {
    "_diffusers_version": "0.16.1",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}


@torch.no_grad()
def make_reference(
    folder: Path,
    encoder_changes: dict,
    unet_changes: dict,
    scheduler: str,
    frames: int,
    steps: int,
    scale: float,
    seed: int,
) -> Path:
    """Write a folder of the published layout with random weights and what the functions above make of them."""
    ec, uc = ENCODER | encoder_changes, UNET | unet_changes
    schedule = SCHEDULE | (
        {"_class_name": "DDIMScheduler", "clip_sample": False}
        if scheduler == "ddim"
        else {"_class_name": "PNDMScheduler", "skip_prk_steps": True}
    )
    draw = torch.Generator().manual_seed(seed + 100)
    ew, uw, vw = Weights(seed), Weights(seed + 1), Weights(seed + 2)
    tensors = {
        name: torch.randn(2, ec["window_size"], ec["num_voxels"], generator=draw) for name in ("fmri", "fmri_negative")
    }
    tensors["fmri_embedding"], attention = encoder(ew, ec, tensors["fmri"])
    negative = encoder(ew, ec, tensors["fmri_negative"])[0]
    unet, vae = UNet(uw, uc, frames), VAE(vw, VAE_CONFIG)
    vae.encode(torch.zeros(1, 3, 16, 16))
    for name in ("noisy_latents", "initial_latents"):
        tensors[name] = torch.randn(2, 4, frames, 8, 8, generator=draw)
    tensors["timestep"] = torch.tensor([17, 803])
    tensors["noise_pred"] = unet(tensors["noisy_latents"], tensors["timestep"], tensors["fmri_embedding"])

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        without = unet(x, t, negative)
        return without + scale * (unet(x, t, tensors["fmri_embedding"]) - without)

    latents = {"ddim": ddim, "pndm": pndm}[scheduler](denoise, tensors["initial_latents"], steps)
    tensors["video"] = vae.decode(latents)
    for name, config, weights in (("fmri_encoder", ec, ew), ("unet", uc, uw), ("vae", VAE_CONFIG, vw)):
        part = folder / "checkpoint" / name
        part.mkdir(parents=True)
        (part / "config.json").write_text(json.dumps(config))
        torch.save(weights.state, part / "diffusion_pytorch_model.bin")
    (folder / "checkpoint" / "scheduler").mkdir()
    (folder / "checkpoint" / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    sampling = {"video_length": frames, "height": 16, "width": 16, "num_inference_steps": steps}
    (folder / "sampling.json").write_text(json.dumps(sampling | {"guidance_scale": scale, "scheduler": scheduler}))
    save_file({k: v.contiguous() for k, v in (tensors | attention).items()}, folder / "tensors.safetensors")
    return folder
