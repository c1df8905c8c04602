"""Long-term memory: the problems are what they say, the criterion is the papers', and a run keeps to it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from resuming import assert_finished_run_resumes

import lstmjax
from experiments import __main__ as program
from experiments.common import mapped
from experiments.long_term_memory import EXPERIMENT, about, grammar, page, pictures, problems
from experiments.long_term_memory import task as tasks
from experiments.long_term_memory.config import Config
from experiments.long_term_memory.problems import PROBLEMS, Criterion, Sequences
from lstmjax import training
from lstmjax.training.record import Record, Run

_FROM_FOUR = "(?:XT*VP)*(?:S|XT*VV)"
REBER = f"B(?:TS*X{_FROM_FOUR}|PT*V(?:V|P{_FROM_FOUR}))E"
"""The Reber grammar as a regular expression."""


def drawn(name, length=20, rows=64, seed=1):
    return PROBLEMS[name](length).draw(np.random.default_rng(seed), rows)


def strings(batch):
    """The strings of a batch of next-symbol prediction, from inputs and targets."""
    for row in range(len(batch.lengths)):
        length = batch.lengths[row]
        read = [*batch.inputs[row, :length].argmax(axis=1), batch.targets[row, length - 1].argmax()]
        yield "".join(grammar.SYMBOLS[symbol] for symbol in read)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_asks_within_its_sequences_and_is_a_function_of_the_generator(name):
    problem, batch = PROBLEMS[name](20), drawn(name)
    assert batch.inputs.shape[-1] == problem.features
    assert batch.targets.shape == batch.legal.shape == (*batch.asked.shape, problem.outputs)
    assert (batch.asked.sum(axis=1) > 0).all()
    assert not batch.asked[np.arange(batch.asked.shape[1]) >= batch.lengths[:, None]].any()
    for one, same in zip(batch, drawn(name), strict=True):
        assert np.array_equal(one, same)
    assert not np.array_equal(batch.inputs, drawn(name, seed=2).inputs)


@pytest.mark.parametrize(
    ("name", "target"), [("adding", lambda a, b: 0.5 + (a + b) / 4), ("multiplication", lambda a, b: a * b)]
)
def test_the_target_is_that_of_the_two_marked_numbers(name, target):
    batch, first = drawn(name, 30, 200), {"adding": 0.0, "multiplication": 1.0}[name]
    low, met = {"adding": -1, "multiplication": 0}[name], set()
    for row in range(200):
        length = batch.lengths[row]
        numbers, markers = batch.inputs[row, :length].T
        assert 30 <= length <= 33
        assert markers[0] == markers[-1] == -1
        assert set(markers[1:-1]) <= {0, 1}
        marked = np.flatnonzero(markers == 1)
        assert numbers.min() >= low
        assert marked[-1] < 15
        assert len(marked) == 1 or marked[0] < 10
        values = [*numbers[marked], *[first] * (2 - len(marked))]
        assert batch.targets[row, length - 1, 0] == pytest.approx(target(*values), abs=1e-6)
        met.add(len(marked))
    assert met == {1, 2}, "both cases occur: the first element is chosen, or not"


@pytest.mark.parametrize(("name", "count"), [("temporal-order-2", 2), ("temporal-order-3", 3)])
def test_the_class_is_the_order_of_the_symbols(name, count):
    batch = drawn(name)
    for row in range(64):
        length = batch.lengths[row]
        text = "".join("abcdXYEB"[symbol] for symbol in batch.inputs[row, :length].argmax(axis=1))
        assert re.fullmatch(rf"E[a-d]*(?:[XY][a-d]*){{{count}}}B", text)
        order = "".join(re.findall("[XY]", text))
        assert int(order.replace("X", "0").replace("Y", "1"), 2) == batch.targets[row, length - 1].argmax()


def test_noise_on_the_three_elements_leaves_the_class_to_their_mean():
    clear, noisy = drawn("two-sequence", 30, 400), drawn("two-sequence-noisy", 30, 400)
    assert set(np.unique(clear.inputs[:, :3])) == {-1, 1}
    assert np.array_equal(clear.targets, noisy.targets)
    noise = (noisy.inputs - clear.inputs)[:, :3]
    assert not (noisy.inputs - clear.inputs)[:, 3:].any()
    assert noise.var() == pytest.approx(0.2, rel=0.1)


def test_the_copy_is_asked_for_after_the_delimiter():
    batch = drawn("copy", 12)
    assert batch.inputs.shape[1] == 32
    read, target = batch.inputs.argmax(axis=2), batch.targets.argmax(axis=2)
    assert (read[:, 21] == 9).all()
    assert (read == 9).sum() == 64
    assert (target[:, :22] == 8).all()
    assert np.array_equal(target[:, 22:], read[:, :10])


def test_strings_are_those_of_the_embedded_grammar():
    found = list(strings(drawn("reber", rows=300)))
    for text in found:
        inner = re.fullmatch(r"B([TP])(.*)\1E", text)
        assert inner, text
        assert re.fullmatch(REBER, inner[2]), text
    assert {text[1] for text in found} == {"T", "P"}
    for text in strings(drawn("continual-reber", 50)):
        whole = re.match(rf"(?:B(?:T{REBER}T|P{REBER}P)E)*", text)[0]
        assert re.fullmatch("(?:B(?:[TP](?:B[TSXVP]*E?[TP]?)?)?)?", text[len(whole) :]), text


def test_legal_symbols_are_all_that_ever_follow():
    """After the same string, whatever follows in any drawn one is legal, and nothing else is."""
    batch, followers = drawn("reber", rows=3000), {}
    for row, text in enumerate(strings(batch)):
        for place in range(len(text) - 1):
            legal = {s for s, may in zip(grammar.SYMBOLS, batch.legal[row, place], strict=True) if may}
            seen, told = followers.setdefault(text[: place + 1], (set(), legal))
            assert told == legal
            seen.add(text[place + 1])
    for seen, legal in followers.values():
        assert seen <= legal
    assert followers["B"] == ({"T", "P"}, {"T", "P"})
    assert followers["BTBPVVE"] == ({"T"}, {"T"})


def test_the_count_decides_what_may_follow():
    batch = drawn("counting")
    for row in range(64):
        length = batch.lengths[row]
        read = [*batch.inputs[row, :length].argmax(axis=1), batch.targets[row, length - 1].argmax()]
        text = "".join("SabcT"[symbol] for symbol in read)
        n = text.count("a")
        assert text == "S" + "a" * n + "b" * n + "c" * n + "T"
        assert batch.legal[row, :length].sum(axis=1).tolist() == [1] + [2] * n + [1] * (2 * n)


def times(row):
    """The steps in which there is something, counted from 1."""
    return [step + 1 for step, value in enumerate(row) if value]


def test_spikes_come_ten_or_eleven_steps_after_one_another_and_the_delay_is_asked():
    batch, met = drawn("timing", 100, 200), set()
    for read, asked, target in zip(batch.inputs[..., 0], batch.asked, batch.targets[..., 0], strict=True):
        spikes = times(read)
        assert times(asked) == spikes
        last = 0
        for spike in spikes:
            delay = spike - last - 10
            met.add(delay)
            assert target[spike - 1] == delay
            last = spike
        assert last > 100 - 11, "up to the end"
    assert met == {0, 1}


def test_spikes_are_asked_for_after_the_delays_that_are_read():
    """Read as a player would: what is read in the first step after a spike says when the next is due."""
    batch = drawn("timed-spikes", 100, 200)
    assert batch.asked.all()
    for read, target in zip(batch.inputs[..., 0], batch.targets[..., 0], strict=True):
        due, played = None, []
        for step, value in enumerate(read, start=1):
            if due is None:
                due = step + 10 + int(value) - 1
            else:
                assert value == 0, "nothing is read between two spikes"
            if step == due:
                played.append(step)
                due = None
        assert times(target) == played


def one(values, targets, legal=None):
    """A batch of one sequence of one step."""
    targets = np.asarray(targets, np.float32)[None, None]
    legal = targets > 0 if legal is None else np.asarray(legal)[None, None]
    batch = Sequences(np.zeros((1, 1, 1)), np.ones(1, int), targets, legal, np.ones((1, 1), bool))
    return jnp.asarray(values, jnp.float32)[None, None], batch


def test_answers_are_right_as_the_papers_have_it():
    assert bool(problems.values(0.04)(*one([0.539], [0.5])).right)
    assert not bool(problems.values(0.04)(*one([0.541], [0.5])).right)
    confident, doubtful = np.log([0.75, 0.25]), np.log([0.65, 0.35])
    assert bool(problems.classes(0.3)(*one(confident, [1, 0])).right)
    assert not bool(problems.classes(0.3)(*one(doubtful, [1, 0])).right), (
        "the most likely class is not enough"
    )
    both = [True, True, False]
    assert bool(problems.symbols(*one([2.0, 1.0, 0.9], [1, 0, 0], both)).right)
    assert not bool(problems.symbols(*one([2.0, 0.8, 0.9], [1, 0, 0], both)).right)


def by_hand(criterion, size, right, error):
    """After how many sequences the criterion is met, from lists of all of them; None if never."""
    recent = -(-criterion.recent // size) * size
    for seen in range(recent, len(right) + 1, size):
        wrong = sum(not each for each in right[seen - recent : seen])
        if wrong <= criterion.wrong and np.mean(error[seen - recent : seen]) < criterion.error:
            return seen
    return None


@pytest.mark.parametrize("criterion", [Criterion(12), Criterion(12, wrong=2), Criterion(9, error=0.3)])
def test_the_criterion_looks_at_the_most_recent_sequences(criterion):
    rng, step = np.random.default_rng(5), jax.jit(lambda *a: tasks.advance(criterion, *a))
    right = rng.random((60, 4)) < np.linspace(0.2, 1.3, 60)[:, None]
    error = rng.random((60, 4)) * np.linspace(2, 0.3, 60)[:, None]
    progress, states = tasks.fresh(criterion, 4), []
    for row in range(60):
        progress = step(progress, jnp.asarray(right[row]), jnp.asarray(error[row]))
        states.append(progress)
    met = by_hand(criterion, 4, right.ravel(), error.ravel())
    assert met is not None
    assert met > 12
    assert [bool(state.solved) for state in states] == [4 * (row + 1) >= met for row in range(60)]
    assert int(progress.seen) == met, "what comes after the solution is not counted"


def test_the_figures_count_a_network_without_a_solution_with_all_that_it_has_seen():
    progress = tasks.Progress((), (), np.array([40, 100, 60]), np.array([True, False, True]))
    found = tasks.figures(progress, tasks.Tested(np.array([0.0, 0.9, 0.1]), np.array([1.0, 2.0, 6.0])))
    assert found["success_rate"] == pytest.approx(2 / 3)
    assert found["sequences_to_solve"] == 60
    assert found["test_loss"] == 3
    assert (found["sequences_mean"], found["sequences_min"], found["sequences_max"]) == (50, 40, 60)
    assert found["test_wrong_solved"] == pytest.approx(0.05)


def test_an_optimizer_rests_where_there_is_no_gradient():
    optimizer = mapped.optimizer(tasks.resting(optax.adam(0.1)))
    params = {"w": jnp.ones((2, 3))}
    state = optimizer.init(params)
    for gradient in (jnp.ones((2, 3)), jnp.ones((2, 3)).at[0].set(0)):
        updates, state = optimizer.update({"w": gradient}, state, params)
    assert not updates["w"][0].any(), "in spite of its momentum"
    assert updates["w"][1].all()


def test_a_stream_counts_until_its_first_error():
    """What is asked in each step is 0: a network that sums what it reads is right until that is not 0."""
    problem = dataclasses.replace(PROBLEMS["adding"](20), read=problems.values(0.5))
    inputs = np.zeros((3, 6, 1), np.float32)
    inputs[1, 4], inputs[2, 0] = 1, 1
    batch = Sequences(inputs, np.full(3, 6), np.zeros((3, 6, 1)), inputs > 0, np.ones((3, 6), bool))

    class Summing:
        def bind(self, params):
            return lambda batch: params * jnp.cumsum(jnp.asarray(batch.inputs), axis=1)

    counts = tasks.until_error(problem, Summing(), jnp.array([1.0, 0.1]), batch)
    assert counts.tolist() == [[6, 4, 0], [6, 6, 6]]


def test_chrono_is_refused_where_it_has_no_meaning():
    for options in ({"cell": "rnn", "chrono": 100}, {"chrono": 2}):
        with pytest.raises(training.ConfigError, match="chrono is for lstm and peephole"):
            Config(**options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_page_says_what_each_problem_asks(name):
    config = {"problem": name, "length": 100, "cell": "lstm", "models": 5}
    metrics = {"success_rate": 1.0, "sequences_to_solve": 3e4, "test_loss": 0.05, "parameters": 93.0}
    record = Record(
        "long_term_memory", "label", "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {}
    )
    text = page.page([record])
    assert about.ABOUT[name] in text
    assert ("without a memory at least 0.1733" in text) == (name == "copy"), "10 ln 8 / 120"


def test_jacobian_products_are_those_of_the_whole_run():
    cell = lstmjax.lstm(2, 3)
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (4, 2))
    products = pictures.jacobians(cell, params, inputs)

    def last(numbers):
        state = lstmjax.LSTMState(numbers[:3], numbers[3:])
        after, _ = lstmjax.unroll(cell, params, inputs, state)
        return jnp.concatenate(after)

    assert products.shape == (4, 6, 6)
    np.testing.assert_allclose(products[-1], jax.jacrev(last)(jnp.zeros(6)), atol=1e-6)


def test_the_page_marks_a_median_that_is_only_a_bound():
    config = {"problem": "adding", "length": 100, "cell": "rnn", "models": 5}
    metrics = {"success_rate": 0.4, "sequences_to_solve": 300_000.0, "test_wrong": 0.5, "parameters": 93.0}
    record = Record(
        "long_term_memory", "adding-100-rnn", "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {}
    )
    assert page.median(record) == "> 300,000"
    text = page.page([record])
    assert "| LSTM, Hochreiter and Schmidhuber 1997, table 7 |  |  | 74,000 | 1 | 93 |" in text
    assert "209,000" not in text, "another length"


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    assert (
        program.main(["long_term_memory", "--quick", "--runs", str(runs), "--train.checkpoint-every", "30"])
        == 0
    )
    (path,) = (runs / "long_term_memory").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run, tmp_path):
    figures = quick_run.figures()
    assert figures["success_rate"] == 0
    assert figures["sequences_to_solve"] == 60 * 20
    assert 0 <= figures["test_wrong"] <= 1
    for name in ("learning_curves", "learning_curves_solved", "traces", "gradient_flow", "unit"):
        assert (quick_run.path / f"{name}.png").stat().st_size > 1000
    arguments = ["long_term_memory", "traces", "--run", str(quick_run.path), "--out", str(tmp_path)]
    assert program.main([*arguments, "--network", "1"]) == 0
    assert (tmp_path / "traces.png").stat().st_size > 1000
    assert program.main([*arguments, "--network", "2"]) == 1, "there are two"


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 60)


def test_training_ends_when_all_networks_have_solved_the_problem():
    config = EXPERIMENT.preset(Config(quick=True))
    problem = dataclasses.replace(PROBLEMS["adding"](20), read=problems.values(2.0), criterion=Criterion(100))
    from experiments.long_term_memory.model import make_model  # noqa: PLC0415

    fit = training.fit(tasks.make_task(config, problem, make_model(config, problem)), config.train)
    assert int(fit.state.step) == 20, "the first evaluation after 100 sequences"
    assert np.asarray(fit.state.carry.seen).tolist() == [100, 100]
