"""The films of the demo world: their contents, and their dependence on the seed."""

from __future__ import annotations

import numpy as np
import pytest

from mindviz.simulate import films
from mindviz.simulate.settings import SETTINGS
from mindviz.simulate.sprites import CATEGORIES, OBJECTS, object_named, sprite
from mindviz.types import MindvizError


@pytest.fixture(scope="module")
def film() -> films.Film:
    return films.make_film("tiny", seed=3, seconds=60)


def test_the_world_has_the_documented_size() -> None:
    assert len(OBJECTS) >= 48 and len({o.name for o in OBJECTS}) == len(OBJECTS)
    assert len(CATEGORIES) >= 8 and len(SETTINGS) >= 8 and len(films.MOTIONS) >= 8


def test_each_sprite_is_drawn_and_premultiplied() -> None:
    for item in OBJECTS:
        picture = sprite(item.name)
        assert picture[..., 3].max() > 0.9, item.name
        assert (picture[..., :3] <= picture[..., 3:] + 1e-6).all()


def test_an_unknown_object_is_named_in_the_error() -> None:
    with pytest.raises(MindvizError, match="unicorn"):
        object_named("unicorn")


def test_a_film_is_a_function_of_its_name_and_seed(film: films.Film) -> None:
    again = films.make_film("tiny", seed=3, seconds=60)
    assert np.array_equal(film.frames, again.frames) and film.shots == again.shots
    other = films.make_film("tiny", seed=4, seconds=60)
    assert not np.array_equal(film.frames, other.frames)
    assert films.make_film("small", seed=3, seconds=60).shots != film.shots


def test_shots_tile_the_film_and_last_2_to_8_seconds(film: films.Film) -> None:
    assert film.frames.shape == (180, 64, 64, 3) and film.frames.dtype == np.uint8
    edges = [0, *(s.stop for s in film.shots)]
    assert [s.start for s in film.shots] == edges[:-1] and edges[-1] == 180
    lengths = [s.stop - s.start for s in film.shots]
    assert min(lengths) >= 6 and max(lengths[:-1]) <= 24
    assert len(film.captions) == 180
    for shot in film.shots:
        assert set(film.captions[shot.start : shot.stop]) == {shot.caption}
        assert shot.object in shot.caption and films.MOTIONS[shot.motion] in shot.caption


def _shot(motion: str, frames: int = 9) -> films.Shot:
    return films.Shot(0, frames, "apple", "food", "room", motion, "")


@pytest.mark.parametrize("motion", films.MOTIONS)
@pytest.mark.parametrize("frames", [6, 24])
def test_the_object_moves_as_the_motion_says(motion: str, frames: int) -> None:
    position, size, angle = films._trajectory(np.random.default_rng(0), _shot(motion, frames))
    step = np.array(films._DIRECTION.get(motion, (0, 0)))
    assert np.array_equal(np.sign(np.round(np.diff(position, axis=0), 9)), np.tile(step, (frames - 1, 1)))
    assert position.min() > 0.05 and position.max() < 0.95
    growth = {"approaching": 1, "receding": -1}.get(motion, 0)
    assert set(np.sign(np.round(np.diff(size), 9))) == {growth}
    assert (len(set(np.round(angle, 6))) == frames) == (motion == "spinning")


def test_the_object_is_drawn_at_the_stated_position() -> None:
    """An independent check: the difference from the empty setting is centred on that position."""
    rng = np.random.default_rng(1)
    canvas = SETTINGS["room"][1](rng)
    position, size, angle = films._trajectory(rng, _shot("right"))
    frames = films._render(canvas, sprite("football"), (position, size, angle)).astype(float)
    empty = films._render(canvas, np.zeros_like(sprite("football")), (position, size, angle)).astype(float)
    weight = np.abs(frames - empty).sum(-1) > 0
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    for k in range(len(frames)):
        x, y = columns[weight[k]].mean() / 64, rows[weight[k]].mean() / 64
        assert abs(x - position[k, 0]) < 0.02 and abs(y - position[k, 1]) < 0.02
        assert abs(np.ptp(rows[weight[k]]) / 64 - size[k]) < 0.05


def test_half_of_a_test_films_pairs_are_never_shown_in_training() -> None:
    training = {
        (s.object, s.setting)
        for name in films.TRAINING_FILMS
        for s in films._plan(np.random.default_rng(1), 1440, False)
    }
    assert not training & films.PAIRS_HELD_OUT
    test = list(films._plan(np.random.default_rng(2), 1440, True))
    share = np.mean([(s.object, s.setting) in films.PAIRS_HELD_OUT for s in test])
    assert 0.45 < share < 0.55
    assert len(films.PAIRS_HELD_OUT) == 2 * len(OBJECTS)
    held_settings = [setting for _, setting in films.PAIRS_HELD_OUT]
    assert all(held_settings.count(s) == 12 for s in SETTINGS)


def test_a_film_too_short_for_a_shot_is_refused() -> None:
    with pytest.raises(MindvizError, match="at least 2 seconds"):
        films.make_film("x", 0, seconds=1)
