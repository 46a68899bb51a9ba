"""The forward model: areas, features, tuning, responses, noise, raw runs."""

import numpy as np
import pytest

from mindviz.data import cleaning
from mindviz.simulate import areas, cortex, features, forward, raw, subjects
from mindviz.types import MindvizError

SIZES = {
    "motion energy": 420,
    "local motion": 42,
    "object meaning": 6,
    "setting": 5,
    "position and size": 15,
    "story": 4,
    "sound track (decoy)": 12,
    "run structure (decoy)": 8,
}


@pytest.fixture(scope="module")
def film():
    """Random features of one film, smooth in time, standardised."""
    rng = np.random.default_rng(0)
    values = {name: np.repeat(rng.normal(size=(120, k)), 12, axis=0) for name, k in SIZES.items()}
    return forward.standardise([values])[0]


@pytest.fixture(scope="module")
def covariance(film):
    return forward.response_covariance([film])


@pytest.fixture(scope="module")
def subject(covariance):
    return subjects.make_subject(subjects.SubjectSpec("1", lag=0.2, noise=0.0), covariance)


# ---------------------------------------------------------------------- areas
def test_areas_have_the_drivers_from_the_literature_and_the_rest_have_none():
    names = areas.area_names()
    drivers = np.array(areas.DRIVERS)[areas.driver_map(names)]
    expected = {"V1": "motion energy", "MT": "local motion", "FFC": "object meaning", "PHA1": "setting"}
    expected |= {"VIP": "position and size", "7m": "story", "A1": "sound track (decoy)", "4": "run structure (decoy)"}
    for area, driver in (expected | {"OFC": "nothing", "44": "nothing"}).items():
        assert set(drivers[names == area]) == {driver}, area
    members = [a for group in areas.AREAS.values() for a in group]
    assert len(members) == len(set(members))
    assert 0.3 < (drivers == "nothing").mean() < 0.7


def test_a_parcellation_without_an_area_is_refused():
    names = areas.area_names()
    names[names == "FFC"] = "elsewhere"
    with pytest.raises(MindvizError, match="areas of 'object meaning', found no FFC"):
        areas.driver_map(names)


@pytest.mark.parametrize(("category", "animate"), [("land animal", True), ("bird or insect", True), ("plant", False)])
def test_people_and_animals_are_animate(category, animate):
    assert areas.is_animate(category) is animate


# ---------------------------------------------------------------------- the cortex
def test_averaging_is_a_mean_over_neighbours_of_one_hemisphere():
    matrix = cortex.averaging()
    assert np.allclose(matrix.sum(1), 1, atol=1e-5)
    assert matrix[: cortex.LEFT, cortex.LEFT :].nnz == 0 and matrix[cortex.LEFT :, : cortex.LEFT].nnz == 0
    assert set(np.diff(matrix.indptr)) <= set(range(2, 9)) and np.median(np.diff(matrix.indptr)) == 7


def test_random_maps_are_standardised_and_smooth():
    rng = np.random.default_rng(0)
    maps = cortex.smooth_fields(rng, 2, 5)
    assert np.allclose(maps.mean(0), 0, atol=1e-4) and np.allclose(maps.std(0), 1, atol=1e-4)
    neighbours = cortex.averaging() @ maps
    shuffled = cortex.averaging() @ rng.permutation(maps)
    assert np.corrcoef(maps[:, 0], neighbours[:, 0])[0, 1] > 0.9 > 0.5 > np.corrcoef(maps[:, 0], shuffled[:, 0])[0, 1]


# ---------------------------------------------------------------------- features
def _grating(direction: float) -> np.ndarray:
    """30 frames of a grating of 4 cycles a frame that drifts at 0.75 cycles a second to 0 (right) or 180 degrees."""
    x = np.arange(64) / 64
    phase = 2 * np.pi * (4 * x[None, :] - np.cos(np.deg2rad(direction)) * 0.75 * np.arange(30)[:, None] / 3)
    rows = np.repeat((127 + 100 * np.cos(phase))[:, None, :], 64, axis=1)
    return np.repeat(rows[..., None], 3, axis=3).astype(np.uint8)


@pytest.mark.parametrize(("moves_to", "label"), [(0, 180), (180, 0)])
def test_motion_energy_encodes_the_direction_of_a_drifting_grating(moves_to, label):
    energy = features.motion_energy(_grating(moves_to))[10:20].mean(0)
    t = features.tuning()
    best = int(np.argmax(energy))
    assert (t.direction[best], t.spatial[best], t.temporal[best]) == (label, 4, 0.75)
    horizontal = features.local_motion(energy[None])[0, 16]  # the middle position, along 0 degrees
    assert np.sign(horizontal) == np.sign(np.cos(np.deg2rad(label)))


def test_position_features_follow_the_object_and_ignore_cuts():
    position = np.stack([np.r_[np.linspace(0.2, 0.4, 10), np.linspace(0.9, 0.8, 10)], np.full(20, 0.5)], 1)
    values = features.position_and_size(position, np.full(20, 0.5))
    assert (
        np.argmax(values[2, :9]) == 3 and np.argmax(values[12, :9]) == 5
    )  # the left and right positions at half height
    assert np.abs(values[:, 11:13]).max() <= 0.5 and not values[:, 14].any()


def test_a_vocabulary_keeps_the_geometry_of_its_embeddings(monkeypatch):
    embeddings = {"cat": [1, 0, 0], "dog": [0.9, 0.1, 0], "car": [0, 0, 1]}
    monkeypatch.setattr(features, "embed", lambda phrases: np.float32([embeddings[p] for p in phrases]))
    words = features.Vocabulary.of(["dog", "cat", "car", "cat"], 8)
    codes = words[["cat", "dog", "car"]]
    assert codes.shape == (3, 2)
    assert np.linalg.norm(codes[0] - codes[1]) < 0.5 * np.linalg.norm(codes[0] - codes[2])


def test_decoys_are_equal_in_every_repeat_and_independent_of_the_picture():
    first = features.sound_track("seg1", 1440, 0)
    assert np.array_equal(first, features.sound_track("seg1", 1440, 0))
    assert np.abs(np.corrcoef(first.T, features.sound_track("seg2", 1440, 0).T)[:12, 12:]).mean() < 0.2
    events = features.run_structure("seg1", 1440, 0)
    assert events.shape == (1440, 8) and events[0, 0] == 1 and events[-1, 0] < 1e-3


# ---------------------------------------------------------------------- responses
def test_the_haemodynamic_response_peaks_at_5_seconds_and_undershoots():
    seconds = np.arange(-5, 32, 0.1)
    response = forward.haemodynamic_response(seconds)
    assert abs(seconds[np.argmax(response)] - 5) < 0.15 and not response[seconds < 0].any()
    assert 12 < seconds[np.argmin(response)] < 18 and response.min() < 0


@pytest.mark.parametrize(("volumes", "first"), [(245, 1), (246, 2)])
def test_the_first_kept_volume_is_acquired_at_film_second_1(volumes, first):
    times = forward.acquisition_times(volumes)
    assert times[first] == 1 and np.allclose(np.diff(times), 2)
    assert times[cleaning.kept_volumes(volumes)].shape == (240,)


def test_convolution_agrees_with_numpy_on_a_fine_grid():
    stimulus = np.random.default_rng(0).normal(size=1440)
    fine = np.repeat(stimulus, 30)  # 90 per second
    kernel = forward.haemodynamic_response(np.arange(0, 32, 1 / 90)) / 90
    oracle = np.convolve(fine, kernel)
    times = forward.acquisition_times(245)[20:200] - 0.5
    ours = forward.convolution(245, 1440, 3.0, lag=0.5)[20:200] @ stimulus
    assert np.corrcoef(ours, oracle[np.round(times * 90).astype(int)])[0, 1] > 0.99


def test_the_standard_deviation_of_responses_is_the_gain_and_undriven_vertices_are_0(subject, film):
    bold = forward.responses(subject, film, 245)
    assert not bold[subject.driver == 0].any()
    kept = np.ascontiguousarray(bold[:, cleaning.kept_volumes(245)])
    drawn = subjects.gains(subject.spec.rng("gain"), subject.driver)
    driven = (subject.driver > 0) & (subject.lag == 0)
    assert np.allclose(cleaning.detrend(kept[driven]).std(1), drawn[driven], rtol=0.02)


def test_the_response_of_one_vertex_is_its_weighted_features_convolved_with_its_lag(subject, film):
    bold = forward.responses(subject, film, 246)
    vertices = subject.vertices["setting"]
    late = int(np.argmax(subject.lag[vertices]))
    expected = forward.convolution(246, 1440, 3.0, float(subject.lag[vertices[late]])) @ film["setting"]
    assert np.allclose(bold[vertices[late]], expected @ subject.weights["setting"][:, late], atol=1e-4)


def test_a_seed_reproduces_a_subject_and_another_name_changes_the_maps(subject, covariance):
    again = subjects.make_subject(subject.spec, covariance)
    other = subjects.make_subject(subjects.SubjectSpec("2", lag=0.2, noise=0.0), covariance)
    ours, theirs = subject.weights["object meaning"], other.weights["object meaning"]
    assert np.array_equal(ours, again.weights["object meaning"]) and np.array_equal(subject.lag, again.lag)
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.3
    assert np.array_equal(subject.driver, other.driver)


def test_receptive_fields_are_contralateral_and_grow_with_eccentricity():
    names = areas.area_names()
    here = np.flatnonzero(np.isin(names, ("V1", "V2")))
    fields = subjects.receptive_fields(np.random.default_rng(0), names, here)
    left = here < cortex.LEFT
    assert (fields[left, 0] >= 0.5).all() and (fields[~left, 0] <= 0.5).all()
    eccentricity = np.hypot(fields[:, 0] - 0.5, fields[:, 1] - 0.5)
    v1 = names[here] == "V1"
    assert np.corrcoef(eccentricity[v1], fields[v1, 2])[0, 1] > 0.99
    assert fields[~v1, 2].min() > fields[v1, 2].min()


def test_the_fusiform_face_complex_prefers_people_and_animals(subject):
    names, vertices = areas.area_names(), subject.vertices["object meaning"]
    animacy = subject.weights["object meaning"][-1]
    fusiform = names[vertices] == "FFC"
    assert (animacy[fusiform] > 0).all() and abs(animacy[~fusiform].mean()) < 0.2 * animacy[fusiform].mean()


# ---------------------------------------------------------------------- noise
@pytest.fixture(scope="module")
def noise():
    return cleaning.detrend(forward.noise(np.random.default_rng(0), 240))


def test_noise_has_unit_variance_and_is_autocorrelated(noise):
    assert 0.85 < noise.std() < 1.1
    assert 0.2 < (noise[:, 1:] * noise[:, :-1]).mean() / noise.var() < 0.5


def test_noise_is_shared_by_neighbours_and_by_networks(noise):
    def correlation(a, b):
        return float((cleaning.zscore(a) * cleaning.zscore(b)).mean())

    links = cortex.averaging().tocoo()
    pairs = np.flatnonzero(links.row < links.col)[::50]
    near = correlation(noise[links.row[pairs]], noise[links.col[pairs]])
    labels = forward.parcellations.load("yeo17").labels
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, len(labels), size=(2, 20000))
    inside = labels[a] == labels[b]
    same, apart = correlation(noise[a[inside]], noise[b[inside]]), correlation(noise[a[~inside]], noise[b[~inside]])
    assert near > 0.5 > same > apart + 0.1 and abs(apart) < 0.05


def test_spontaneous_activity_has_its_variance_and_is_uncorrelated_with_the_film(covariance, film):
    spec = subjects.SubjectSpec("1", lag=0.0, noise=0.0, spontaneous=2.0)
    busy = subjects.make_subject(spec, covariance)
    response = forward.responses(busy, film, 245)
    activity = forward.spontaneous(np.random.default_rng(0), busy, response)
    assert not activity[busy.driver == 0].any()
    for name, share in (("setting", 2.0), ("motion energy", 1.2)):
        here = busy.vertices[name]
        assert np.allclose(activity[here].var(1), share * response[here].var(1), rtol=1e-3)
        assert abs((cleaning.zscore(activity[here]) * cleaning.zscore(response[here])).mean()) < 0.25


def test_the_noise_ceiling_is_the_correlation_reached_in_simulation():
    rng = np.random.default_rng(0)
    response = rng.normal(size=(3, 20000)) * np.array([[0.0], [0.5], [2.0]])
    ceiling = forward.noise_ceiling(response, np.full(3, 4.0), repeats=10)
    measured = response + rng.normal(size=(10, 3, 20000)).mean(0) * 2
    assert ceiling[0] == 0
    for i in (1, 2):
        assert abs(np.corrcoef(response[i], measured[i])[0, 1] - ceiling[i]) < 0.01


# ---------------------------------------------------------------------- raw runs
def test_a_raw_run_holds_the_response_on_its_baseline(subject, film):
    response = forward.responses(subject, film, 245)
    data = raw.simulate_run(subject, response, "seg1", 1)
    assert data.shape == (91282, 245) and data.dtype == np.float32
    assert np.allclose(data[:59412], 10_000 * subject.baseline[:, None] + 100 * response, atol=0.01)


def test_repeats_differ_and_a_seed_reproduces_a_run(covariance, subject, film):
    noisy = subjects.make_subject(subjects.SubjectSpec("1", lag=0.2, noise=2.0), covariance)
    response = np.zeros((59412, 245), np.float32)
    first = raw.simulate_run(noisy, response, "seg1", 1)
    assert np.array_equal(first, raw.simulate_run(noisy, response, "seg1", 1))
    second = raw.simulate_run(noisy, response, "seg1", 2)
    a, b = (cleaning.detrend(x[:2000]) for x in (first, second))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1 and 150 < a.std() < 250
