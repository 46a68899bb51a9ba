"""Pretrained classifiers: the packaged one, and tiny transformers models from a folder."""

import numpy as np
import pytest
import torch

from mindviz.metrics import classifiers
from mindviz.types import MindvizError

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 6, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A ViT with random weights in the layout of transformers."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("tiny-vit")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, num_labels=60
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videomae(tmp_path_factory):
    """A VideoMAE with random weights, which reads 16 frames."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor

    folder = tmp_path_factory.mktemp("tiny-videomae")
    torch.manual_seed(0)
    config = VideoMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, num_labels=55
    )
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    VideoMAEImageProcessor(**sizes).save_pretrained(folder)
    return folder


def test_a_vit_judges_every_frame(vit):
    from transformers import ViTForImageClassification

    found = classifiers.image_transformer(vit, batch=4)
    scores = found.scores(CLIPS)
    assert (found.unit, found.name) == ("frame", f"vit ({vit.name})") and scores.shape == (3, 6, 60)
    pixels = torch.from_numpy(CLIPS[2, 5]).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    with torch.no_grad():
        expected = ViTForImageClassification.from_pretrained(vit).eval()(pixels).logits[0]
    assert scores[2, 5] == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_videomae_judges_the_video(videomae):
    found = classifiers.video_transformer(videomae, batch=2)
    scores = found.scores(CLIPS)
    assert (found.unit, scores.shape) == ("video", (3, 55))
    assert scores[2:] == pytest.approx(found.scores(CLIPS[2:]), abs=1e-5)
    assert np.abs(scores[0] - found.scores(CLIPS[:1, ::-1])).max() > 1e-6, "the order of frames counts"


def test_efficientnet_distinguishes_two_pictures():
    """A drawn traffic light is not a natural image, but different pictures must give different scores."""
    found = classifiers.efficientnet(64)
    flat = np.zeros((1, 2, 64, 64, 3), np.uint8)
    flat[:, 1] = 200
    scores = found.scores(flat)
    assert scores.shape == (1, 2, 1000) and np.abs(scores[0, 0] - scores[0, 1]).max() > 0.1
    pixels = classifiers.normalised(flat[0], 64)
    assert pixels[0, :, 3, 3].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-5)


def test_a_clip_shown_many_times_is_judged_once():
    judged = []

    def scores(clips):
        judged.append(len(clips))
        return np.arange(len(clips) * 2.0).reshape(-1, 2)

    found = classifiers.Classifier("counts", "video", scores)
    assert classifiers.judge_clips(found, np.broadcast_to(CLIPS[:1], (5, *CLIPS.shape[1:]))).tolist() == [[0, 1]] * 5
    assert len(classifiers.judge_clips(found, CLIPS)) == 3 and judged == [1, 3]


def test_incomplete_folders_are_refused(vit, tmp_path):
    with pytest.raises(MindvizError, match="expected an image classifier of transformers, found nothing"):
        classifiers.image_transformer(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MindvizError, match=r"model\.safetensors: expected a file of a VideoMAE"):
        classifiers.video_transformer(tmp_path)
    for name in ("model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((vit / name).read_bytes())
    with pytest.raises(MindvizError, match="files that cannot be loaded as one"):
        classifiers.image_transformer(tmp_path)


def test_missing_weights_are_refused_rather_than_initialised(vit, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((vit / name).read_bytes())
    kept = {n: t for n, t in load_file(vit / "model.safetensors").items() if not n.startswith("classifier")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MindvizError, match="found 2 missing"):
        classifiers.image_transformer(tmp_path)
