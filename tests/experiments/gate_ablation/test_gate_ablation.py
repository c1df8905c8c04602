"""Gate ablation: the variants are the paper's, and networks side by side learn as if alone."""

import dataclasses
import functools
import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from resuming import assert_finished_run_resumes
from scipy import stats
from scipy.io import savemat

from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line, mapped, models
from experiments.datasets import piano_rolls
from experiments.gate_ablation import EXPERIMENT, comparison, page, search
from experiments.gate_ablation import task as tasks
from experiments.gate_ablation.config import Config
from experiments.gate_ablation.model import VARIANTS, make_model
from experiments.gate_ablation.search import Settings, Trials
from lstmjax import training
from lstmjax.training.record import Record, RecordError, Run

SMALL = dataclasses.replace(EXPERIMENT.preset(Config(quick=True)), hidden=3, trials=4, batch_size=3)


def rolls(count, seed, longest=9):
    rng = np.random.default_rng(seed)
    return tuple(rng.random((rng.integers(3, longest), 88)) < 0.1 for _ in range(count))


def chorales(seed=0):
    parts = (rolls(7, seed), rolls(4, seed + 1), rolls(5, seed + 2))
    return datasets.Splits(*(tuple(roll.astype(np.uint8) for roll in part) for part in parts))


def settings_of(*rates):
    """Settings with different rates, momenta and noises."""
    numbers = np.arange(len(rates), dtype=np.float32)
    return Settings(np.array(rates, np.float32), 0.1 + numbers / 5, numbers / 4)


def random_params(model, networks=None, seed=3):
    """Parameters that are all random, without the cost of compiling the initializer."""
    rng = np.random.default_rng(seed)
    axis = () if networks is None else (networks,)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, axis + leaf.shape), jnp.float32), shapes)


def make_task(config, splits, settings):
    batches = tasks.make_batches(config, splits)
    return tasks.make_task(make_model(config, splits.train), batches, splits, settings)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def losses_by_the_equations(variant, network, roll):
    """The loss of every frame but the first: one sequence, in float64, from the equations of the paper."""
    weights, readout = network.recurrent.values, network.readout
    hidden = weights.recurrent_kernel.shape[0]
    columns = {"nig": "fgo", "nfg": "igo", "nog": "ifg", "cifg": "igo"}.get(variant, "ifgo")
    gates = columns.replace("g", "")

    def part(array, names, name):
        place = names.index(name) * hidden
        return np.asarray(array, np.float64)[..., place : place + hidden]

    h = c = np.zeros(hidden)
    before, found = {name: np.zeros(hidden) for name in gates}, []
    for x, following in zip(roll[:-1].astype(float), roll[1:].astype(float), strict=True):

        def total(name, c=None, x=x, h=h, before=before):
            value = x @ part(weights.kernel, columns, name) + h @ part(
                weights.recurrent_kernel, columns, name
            )
            value = value + part(weights.bias, columns, name)
            if c is not None and variant != "np":
                value = value + part(weights.peepholes, gates, name) * c
            if c is not None and variant == "fgr":
                every = np.concatenate([before[gate] for gate in gates])
                value = value + every @ part(weights.gate_kernel, gates, name)
            return value

        i = np.ones(hidden) if variant == "nig" else sigmoid(total("i", c))
        f = {"cifg": 1 - i, "nfg": np.ones(hidden)}.get(variant)
        f = sigmoid(total("f", c)) if f is None else f
        g = total("g") if variant == "niaf" else np.tanh(total("g"))
        c = f * c + i * g
        o = np.ones(hidden) if variant == "nog" else sigmoid(total("o", c))
        h = o * (c if variant == "noaf" else np.tanh(c))
        before = {"i": i, "f": f, "o": o}
        keys = sigmoid(h @ np.asarray(readout.kernel[...], np.float64) + np.asarray(readout.bias[...]))
        found.append(-np.log(np.where(following == 1, keys, 1 - keys)).sum())
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_figure_is_the_mean_over_frames_by_the_equations_of_the_variant(variant):
    splits, config = chorales(), dataclasses.replace(SMALL, variant=variant)
    model, task = make_model(config, splits.train), make_task(config, splits, settings_of(0.01, 0.01))
    params = random_params(model, 2)
    figures = training.evaluate_each(task, params, task.valid())["nll"]
    for network in range(2):
        own = model.bind(jax.tree.map(lambda leaf: leaf[network], params))  # noqa: B023
        frames = [loss for roll in splits.valid for loss in losses_by_the_equations(variant, own, roll)]
        assert figures[network] == pytest.approx(np.mean(frames), rel=1e-5)


def test_variants_have_the_parameters_that_they_should():
    def count(variant):
        model = make_model(dataclasses.replace(SMALL, variant=variant), chorales().train)
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))

    column, readout = 88 * 3 + 3 * 3 + 3, 3 * 88 + 88
    assert count("v") == 4 * column + 3 * 3 + readout
    assert count("np") == count("v") - 3 * 3
    assert count("niaf") == count("noaf") == count("v")
    for variant in ("nig", "nfg", "nog", "cifg"):
        assert count(variant) == count("v") - column - 3
    assert count("fgr") == count("v") + 9 * 3 * 3


def test_settings_are_drawn_from_their_ranges_and_the_same_for_all_variants():
    many = search.draw(dataclasses.replace(SMALL, trials=4000))
    for values, low, high in (
        (np.log10(many.learning_rate), np.log10(3e-3), -1),
        (np.log10(1 - many.momentum), -2, 0),
        (many.noise, 0, 1),
    ):
        assert values.min() >= low - 1e-3
        assert values.max() <= high + 1e-3
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.03)
        assert np.std(values) == pytest.approx((high - low) / np.sqrt(12), rel=0.03)
    for one, same in zip(
        search.draw(SMALL), search.draw(dataclasses.replace(SMALL, variant="np")), strict=True
    ):
        assert np.array_equal(one, same)
    other = dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, seed=2))
    assert not np.isin(search.draw(other).learning_rate, search.draw(SMALL).learning_rate).any()


def test_networks_side_by_side_learn_as_if_alone():
    splits, settings = chorales(), settings_of(0.03, 0.1)
    config = dataclasses.replace(SMALL.train, steps=4, evaluate_every=2)
    start = random_params(make_model(SMALL, splits.train), 2)
    task = make_task(SMALL, splits, settings)
    fit = training.fit(task, config, optimizer=search.optimizer(config, settings), params=start)
    alone = search.repeated(settings, 1, 1)
    rule = functools.partial(optax.adam, b1=float(alone.momentum[0]))
    own = training.fit(
        make_task(SMALL, splits, alone),
        dataclasses.replace(config, learning_rate=0.1),
        optimizer=mapped.optimizer(training.optimizer(dataclasses.replace(config, learning_rate=0.1), rule)),
        params=jax.tree.map(lambda leaf: leaf[1:], start),
    )
    assert fit.best.value[1] == pytest.approx(own.best.value[0], rel=1e-5)
    pairs = zip(jax.tree.leaves(fit.state.params), jax.tree.leaves(own.state.params), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one[1], other[0], atol=2e-4)


def test_noise_is_on_the_inputs_in_training_only_and_scaled_by_the_network():
    splits = chorales()
    model, batches = make_model(SMALL, splits.train), tasks.make_batches(SMALL, splits)
    params, batch = random_params(model), tasks.noisy_batch(batches, 1, 0)
    assert 0.9 < batch.noise.std() < 1.1
    assert not np.array_equal(batch.noise, tasks.noisy_batch(batches, 1, 1).noise)
    assert not next(tasks.evaluation_batches(splits, splits.valid)).noise.any()

    compiled = jax.jit(functools.partial(tasks.frame_losses, model))

    def loss(noise, batch):
        return float(compiled(params, jnp.float32(noise), batch).compute())

    clean = loss(0, batch)
    assert loss(0.5, batch) != pytest.approx(clean, rel=1e-4)
    assert loss(0.5, batch) == pytest.approx(loss(1, batch._replace(noise=batch.noise / 2)), rel=1e-5)
    assert loss(0.5, batch._replace(noise=0 * batch.noise)) == pytest.approx(clean)


def test_an_overflowing_gradient_is_that_networks_own():
    def loss(params, factors):
        own = jax.vmap(tasks.finite_gradient)(params)
        return (factors * jnp.square(own["w"])).sum() + own["b"].sum()

    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(3)}
    factors = jnp.ones((3, 2)).at[1, 0].set(jnp.inf)
    gradients = jax.grad(loss)(params, factors)
    assert gradients["w"].tolist() == [[2, 2], [0, 0], [2, 2]]
    assert gradients["b"].tolist() == [1, 0, 1]


def test_the_figures_of_a_search_are_those_of_its_best_trials():
    valid = np.array([9.0, 8.5, 9.5, 8.4, 9.1, 8.9, 9.2, 9.3])
    trials = Trials(settings_of(*np.linspace(0.01, 0.08, 8)), valid, valid + 0.1 * np.arange(8), np.arange(8))
    assert search.best_quarter(trials).tolist() == [3, 1]
    figures = search.figures(trials)
    assert (figures["trials"], figures["top_trials"]) == (8, 2)
    assert figures["best_valid_nll"] == 8.4
    assert figures["best_test_nll"] == pytest.approx(8.7)
    assert figures["top_test_nll"] == pytest.approx((8.7 + 8.6) / 2)
    assert figures["top_test_nll_std"] == pytest.approx(np.std([8.7, 8.6], ddof=1))
    assert figures["learning_rate"] == pytest.approx(0.04)


def test_the_statistics_are_those_of_the_samples():
    rng = np.random.default_rng(2)
    one, other = rng.normal(8.6, 0.1, 5), rng.normal(8.8, 0.3, 7)
    samples = [comparison.Sample(each.mean(), each.std(ddof=1), len(each)) for each in (one, other)]
    expected = stats.ttest_ind(one, other, equal_var=False).pvalue
    assert comparison.welch(*samples) == pytest.approx(expected)


def test_a_hyperparameter_that_decides_is_seen():
    settings = settings_of(*np.linspace(0.1, 0.01, 9))._replace(noise=np.array([3, 1, 2, 9, 4, 8, 7, 6, 5]))
    valid = 9 - np.sqrt(settings.learning_rate)
    found = comparison.rank_correlations([Trials(settings, valid + 1, valid, valid)] * 2)
    assert found["learning_rate"].rho == pytest.approx(-1)
    distances = np.square(settings.noise - np.arange(1, 10)).sum()
    assert found["noise"].rho == pytest.approx(1 - 6 * distances / (9 * 80)), "without ties, by its formula"


def by_enumeration(differences):
    """The p-value of Wilcoxon's signed-rank test: all signs that the differences could have had."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1

    def statistic(signs):
        return abs(float((ranks * signs).sum()))

    every = [statistic(signs) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    return np.mean([value >= statistic(np.sign(differences)) for value in every])


def test_trials_of_the_same_settings_are_compared_in_pairs():
    rng, settings = np.random.default_rng(3), settings_of(*np.linspace(0.01, 0.1, 9))
    whole = rng.normal(9, 1, 9)
    one, other = (
        Trials(settings, values, values, values) for values in (whole + rng.normal(0.1, 0.1, 9), whole)
    )
    found = comparison.paired(one, other)
    differences = one.test_nll - other.test_nll
    assert found.median == pytest.approx(np.median(differences))
    assert found.worse == (differences > 0).sum()
    assert found.p == pytest.approx(by_enumeration(differences))
    with pytest.raises(RecordError, match="not of the same settings"):
        comparison.paired(one, other._replace(settings=settings_of(*np.linspace(0.01, 0.2, 9))))


def record(variant, mean, deviation=0.02):
    own = dict(zip(("", "_std", "_min", "_max"), (mean, deviation, mean - 0.03, mean + 0.03), strict=True))
    metrics = {f"{name}{end}": value for name in ("test_nll", "top_test_nll") for end, value in own.items()}
    metrics |= {"top_trials": 3.0, "trials": 12.0, "parameters": 1234.0, "best_test_nll": mean}
    config = dataclasses.asdict(dataclasses.replace(SMALL, variant=variant, seeds=5))
    return Record(
        "gate_ablation", f"jsb-{variant}", "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {}
    )


def test_the_page_says_which_variants_differ(monkeypatch):
    records = [record("np", 8.61), record("v", 8.6), record("nfg", 9.2), record("cifg", 8.5)]
    rng, same = np.random.default_rng(4), settings_of(*np.linspace(0.01, 0.1, 9))
    kept = {"v": np.linspace(8.6, 9.2, 9)}
    kept |= {"nfg": kept["v"] + rng.random(9), "np": kept["v"] - 0.1, "cifg": kept["v"] + 0.01}
    searches = {variant: Trials(same, valid, valid, valid) for variant, valid in kept.items()}
    monkeypatch.setattr(page, "load_searches", lambda records: searches)
    text = page.page(records)
    assert "| NFG | critical | +0.60 | < 0.001 |" in text
    assert "9 of 9 | 0.004 |" in text
    assert "| NP | does not hurt significantly | +0.01 |" in text
    assert "for: NFG (worse), CIFG (better) among the retrained networks" in text
    assert "NFG (worse), NP (better), CIFG (worse) among the pairs" in text
    assert text.index("**V**") < text.index("**NFG**") < text.index("**CIFG**"), "the order of the paper"
    assert text.index("| NFG |") < text.index("| NP |") < text.index("| CIFG |"), "from the worst to the best"
    assert "| learning rate | +" in text
    assert "Not recorded yet: NIG, no input gate; NOG, no output gate;" in text
    assert page.page([]).startswith("# Gate ablation")
    assert [row.label for row in page.results(records)] == ["jsb-v", "jsb-nfg", "jsb-cifg", "jsb-np"]


def test_a_spread_needs_two_networks():
    with pytest.raises(training.ConfigError, match="seeds must be at least 2"):
        Config(seeds=1)


@pytest.fixture(scope="module", name="data")
def _data(tmp_path_factory):
    """A file of small rolls, in the published format."""
    folder = tmp_path_factory.mktemp("data")
    path = folder / "music" / "JSB_Chorales.mat"
    path.parent.mkdir()

    def cells(part):
        array = np.empty((1, len(part)), object)
        array[0] = part
        return array

    parts = zip(("traindata", "validdata", "testdata"), map(cells, chorales()), strict=True)
    savemat(path, dict(parts))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        file = dataclasses.replace(piano_rolls.FILES["jsb"], sha256=digest)
        patch.setitem(piano_rolls.FILES, "jsb", file)
        yield folder


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--quick", "--runs", str(runs), "--data-dir", str(data)]
    assert program.main(["gate_ablation", *flags]) == 0
    (path,) = (runs / "gate_ablation").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run, tmp_path, monkeypatch, capsys):
    figures = quick_run.figures()
    assert figures["trials"] == 4
    assert figures["test_nll_min"] <= figures["test_nll"] <= figures["test_nll_max"]
    assert figures["parameters"] == 4 * (88 * 8 + 8 * 8 + 8) + 3 * 8 + 8 * 88 + 88
    assert [session.tested for session in quick_run.sessions()] == [True]
    assert (quick_run.path / "trials.png").stat().st_size > 1000
    kept = search.load(quick_run.path / "model")
    assert kept.valid_nll.min() == pytest.approx(figures["best_valid_nll"])
    drawn = search.draw(command_line.from_mapping(Config, quick_run.config))
    np.testing.assert_array_equal(kept.settings.learning_rate, drawn.learning_rate)

    monkeypatch.setattr(models, "RESULTS", tmp_path)
    monkeypatch.setattr("experiments.gate_ablation.commands.RESULTS", tmp_path)
    report = ["gate_ablation", "report", "--out", str(tmp_path / "report")]
    assert program.main(report) == 1
    assert "nothing is recorded" in capsys.readouterr().err
    models.keep(
        quick_run.path, dataclasses.replace(record("v", 8.6), config=quick_run.config, metrics=figures)
    )
    assert program.main(report) == 0
    assert (tmp_path / "report" / "variants.png").stat().st_size > 1000
    assert "pictures/variants.png" in capsys.readouterr().out


def test_a_run_is_resumed_to_the_same_figures(quick_run, data, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 20, "--data-dir", str(data))


def test_the_default_search_draws_what_the_page_says():
    config = EXPERIMENT.preset(Config())
    for said in (f"{config.hidden} units", f"{config.epochs} epochs", f"at most {config.chunk_frames + 1}"):
        assert said in page.METHOD.replace("\n", " ")
    assert search.LEARNING_RATE == (0.003, 0.1)
    assert "0.003 to 0.1" in page.METHOD.replace("\n", " ")
