"""The question answering experiment: batches, readers, figures, and what a run writes and answers."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line, mapped, models
from experiments.common.text.vocabulary import UNKNOWN
from experiments.datasets.babi import TASKS, Question, words
from experiments.question_answering import EXPERIMENT, answers, asking, page
from experiments.question_answering.config import Config, preset
from experiments.question_answering.data import Language, Sentences, Sequences
from experiments.question_answering.model import recall
from experiments.question_answering.pictures import Answered, written
from experiments.question_answering.side_by_side import SideBySide
from experiments.question_answering.task import (
    limited,
    load_model,
    make_batches,
    make_collate,
    make_model,
    make_task,
)
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.evaluation import compute
from lstmjax.training.record import Record

PLACES = ("office", "garden", "kitchen")


def make_question(random, task):
    story = tuple(
        words(f"{random.choice(['mary', 'john'])} went to the {random.choice(PLACES)}")
        for _ in range(random.integers(1, 6))
    )
    return Question(task, story, words("where is mary"), str(random.choice(PLACES)), (len(story) - 1,))


@pytest.fixture(scope="module", name="questions")
def _questions():
    random = np.random.default_rng(0)
    return tuple(make_question(random, task) for task in TASKS for _ in range(3))


def small(model="attention", **changes):
    sizes = {"hidden": 6, "embedding": 5, "layers": 2, "hops": 2, "matches": 2, "batch_size": 4, "memory": 4}
    sizes["shares"] = (1.0,)
    return dataclasses.replace(preset(Config(model=model)), **sizes | changes)


def made(config, questions):
    language = Language.of(questions)
    model, collate = make_model(config, language), make_collate(config, language)
    parts = datasets.Splits(*[tuple(questions)] * 3)
    batches, _, _ = make_batches(config, collate, parts)
    return model, language, batches, mapped.init(model, len(batches.sets))(jax.random.key(0))


def text(language, numbers, length):
    return tuple(language.words.decode(numbers[:length]))


def test_a_batch_has_each_distinct_sentence_once_and_the_last_of_each_story(questions):
    language = Language.of(questions)
    batch = Sentences(language, memory=3)(questions[:5], time=4, rows=7)
    lines = list(zip(batch.sentences, batch.sentence_lengths, strict=True))
    told = [text(language, *line) for line in lines if line[1]]
    assert len(told) == len(set(told))
    for row, question in enumerate(questions[:5]):
        length = batch.story_lengths[row]
        story = tuple(text(language, *lines[place]) for place in batch.story[row, :length])
        assert story == question.story[-3:]
        assert text(language, *lines[batch.question[row]]) == question.question
        assert language.answers.tokens[batch.answers[row]] == question.answer
        assert batch.facts[row].tolist() == [length - 1, -1, -1]
    assert batch.tasks.tolist() == [1, 1, 1, 2, 2, 0, 0]
    assert batch.story_lengths[5:].tolist() == [0, 0]


def test_a_supporting_fact_beyond_the_memory_is_left_out(questions):
    long = Question(1, questions[0].story[:1] * 5, questions[0].question, "office", (0, 2, 4))
    batch = Sentences(Language.of(questions), memory=3)([long], time=3, rows=1)
    assert batch.facts.tolist() == [[-1, 0, 2]]


def test_a_sequence_is_the_story_and_then_the_question(questions):
    language = Language.of(questions)
    batch = Sequences(language, longest=400)(questions[:2], time=40, rows=3)
    for row, each in enumerate(questions[:2]):
        expected = tuple(word for sentence in (*each.story, each.question) for word in sentence)
        assert text(language, batch.words[row], batch.lengths[row]) == expected
    cut = Sequences(language, longest=4)(questions[:1], time=4, rows=1)
    assert text(language, cut.words[0], 4)[1:] == ("where", "is", "mary")


def test_an_answer_that_training_did_not_have_is_never_right(questions):
    stranger = questions[0]._replace(answer="office,garden")
    config = small()
    model, language, _, params = made(config, questions)
    batch = make_collate(config, language)([stranger], 4, 1)
    params["readout"]["bias"] = params["readout"]["bias"].at[:, 0].set(100.0)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    figures = jax.jit(functools.partial(answers.figures_of, model, False))(one, batch, None)
    assert float(figures["error"].compute()) == 1
    batches = SideBySide([[stranger]], lambda _: 4, make_collate(config, language), 1, [(4,)], ((0,),))
    (answered,) = answers.answers_of(model, params, language, batches)
    assert answered.answer in PLACES, "and nobody is told <unk>"


@pytest.mark.parametrize("readers", ["joint", "single"])
def test_an_epoch_has_every_question_once(readers, questions):
    _, _, batches, _ = made(small(readers=readers, groups=3, shares=(0.3, 0.7, 1.0)), questions)
    for each in (
        [batches.at(1, step) for step in range(batches.steps_per_epoch)],
        list(batches.once()),
    ):
        tasks = np.concatenate([group.tasks.ravel() for groups in each for group in groups])
        assert np.bincount(tasks[tasks > 0]).tolist() == [0, *[3] * 20]
    assert sorted(each for items in batches.items(0) for each in items) == sorted(batches.sets[0])
    jax.tree.map(np.testing.assert_array_equal, batches.at(3, 5), batches.at(3, 5))


@pytest.mark.parametrize("model_name", ["attention", "lstm"])
def test_padding_and_other_rows_change_nothing(model_name, questions):
    config = small(model_name)
    model, language, _, params = made(config, questions)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    read = functools.partial(jax.jit(lambda params, batch: model.bind(params)(batch)), one)
    collate = make_collate(config, language)
    together = read(collate(questions[:4], 60, 6))
    for row, question in enumerate(questions[:4]):
        alone = read(collate([question], collate.length(question), 1))
        np.testing.assert_allclose(together.logits[row], alone.logits[0], rtol=2e-4, atol=1e-5)
        if alone.weights is not None:
            length = collate.length(question)
            np.testing.assert_allclose(together.weights[row, :, :length], alone.weights[0], atol=1e-5)
            assert not np.any(together.weights[row, :, length:])


def test_recall_is_the_recurrence_it_is_written_as():
    random = np.random.default_rng(0)
    opening, values = random.normal(size=(2, 7)) * 3, random.normal(size=(2, 7, 3))
    valid = np.arange(7) < np.array([[7], [4]])
    gate = valid / (1 + np.exp(-opening))
    for reverse in (False, True):
        state, expected = np.zeros((2, 3)), np.zeros((2, 7, 3))
        for step in reversed(range(7)) if reverse else range(7):
            z = gate[:, step, None]
            state = expected[:, step] = z * values[:, step] + (1 - z) * state
        found = recall(*map(jnp.asarray, (opening, values, valid)), reverse)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model_name", "readers"), [("attention", "joint"), ("lstm", "single")])
def test_the_figures_are_those_of_the_questions_one_by_one(model_name, readers, questions):
    config = small(model_name, readers=readers, groups=2)
    model, language, batches, params = made(config, questions)
    task = make_task(config, model, batches, batches)
    figures = training.evaluate(task, params, task.valid())
    answered = answers.answers_of(model, params, language, batches)
    assert sorted(each.question for each in answered) == sorted(questions)
    assert figures["error"] == pytest.approx(1 - np.mean([each.right for each in answered]))
    for number in TASKS:
        own = [each.right for each in answered if each.question.task == number]
        assert figures[page.metric(number)] == pytest.approx(np.mean(own))


def _loss_at(loss, batches, params):
    value, (_, metrics) = loss(params, (), batches, jax.random.key(1))
    return value, metrics


def test_models_side_by_side_are_each_as_if_alone(questions):
    """Their losses and gradients, run by one vmap or one after the other."""
    found = {}
    for groups in (1, 20):
        config = small("lstm", readers="single", groups=groups, dropout=0.0)
        model, _, batches, params = made(config, questions)
        task = make_task(config, model, batches, batches)
        loss = functools.partial(_loss_at, task.loss, batches.at(0, 0))
        (total, _), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        found[groups] = (total, gradients)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found[1], found[20])


def test_an_optimizer_for_each_clips_each_by_its_own_norm():
    config = training.TrainConfig(learning_rate=1.0, clip_norm=1.0)
    gradients = {"kernel": jnp.array([[3.0, 4.0], [0.3, 0.4]])}
    both = mapped.optimizer(training.adam(config))
    one = training.adam(config)
    updates, _ = both.update(gradients, both.init(gradients), gradients)
    for number in range(2):
        own = jax.tree.map(lambda leaf: leaf[number], gradients)  # noqa: B023
        expected, _ = one.update(own, one.init(own), own)
        np.testing.assert_allclose(updates["kernel"][number], expected["kernel"], rtol=1e-6)


def test_supervision_by_facts_is_the_log_of_what_hops_give_them():
    weights = jnp.array([[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.0, 1.0]]])
    facts = jnp.array([[1, 0, 1], [0, -1, -1]])
    found = answers.facts_loss(weights, facts)
    assert float(found.weight) == 3
    assert float(found.total) == pytest.approx(-np.log(0.5) - np.log(0.25), abs=1e-4)


def test_facts_are_used_only_if_they_are_asked_for(questions):
    for supervision, names in (("answers", {"nll", "error"}), ("facts", {"nll", "error", "facts_nll"})):
        config = small(supervision=supervision)
        model, _, batches, params = made(config, questions)
        task = make_task(config, model, batches, batches)
        _, (_, metrics) = jax.eval_shape(task.loss, params, (), batches.at(0, 0), jax.random.key(0))
        assert set(metrics) == names
    with pytest.raises(training.ConfigError, match="not for lstm"):
        small("lstm", supervision="facts")


def run_quickly(folder, data, *flags):
    places = ["--runs", str(folder), "--data-dir", str(data)]
    return command_line.main("question_answering", EXPERIMENT, ["--quick", *places, *flags])


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    return run_quickly(tmp_path_factory.mktemp("runs"), real_data)


def failed_by_counting(path, data):
    """The tasks of which fewer than 19 of 20 questions are answered rightly, in whole numbers."""
    saved = load_model(models.of_run(path, "question_answering"))
    parts = datasets.load("babi-1k", data)
    parts = datasets.Splits(*(limited(part, saved.config.limit) for part in parts))
    *_, test = make_batches(saved.config, make_collate(saved.config, saved.language), parts)
    found = answers.answers_of(saved.model, saved.params, saved.language, test)
    right = {task: [each.right for each in found if each.question.task == task] for task in TASKS}
    return sum(20 * sum(own) < 19 * len(own) for own in right.values())


def test_a_task_with_950_of_1000_right_answers_has_not_failed():
    counts = {page.metric(task): Mean(jnp.float32(950), jnp.float32(1000)) for task in TASKS}
    counts[page.metric(3)] = Mean(jnp.float32(949), jnp.float32(1000))
    assert page.failed(compute([counts])) == 1


def test_a_run_writes_what_it_promises(quick_run, real_data):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "model"} <= names
    assert {"learning_curves.png", "tasks.png", "tasks.md", "attention-01.png", "wrong_answers.txt"} <= names
    metrics = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    own = [metrics[page.metric(task)] for task in TASKS]
    assert metrics["mean_accuracy"] == pytest.approx(np.mean(own))
    assert metrics["failed_tasks"] == failed_by_counting(quick_run.path, real_data)
    assert "wrong ==" in (quick_run.path / "wrong_answers.txt").read_text()


def test_a_finished_run_that_is_resumed_has_the_same_figures(quick_run):
    before = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    command_line.main("question_answering", EXPERIMENT, ["--resume", str(quick_run.path)])
    assert json.loads((quick_run.path / "summary.json").read_text())["metrics"] == before


def test_ask_answers_from_a_file_and_names_unknown_words(quick_run, tmp_path, capsys):
    told = tmp_path / "story.txt"
    told.write_text(
        "1 Mary went to the office.\n2 Mary took the zeppelin.\n3 Where is Mary?\n\nWhere is Mary?\n"
    )
    capsys.readouterr()
    assert program.main(["question_answering", "ask", "--run", str(quick_run.path), "--file", str(told)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "unknown: zeppelin (this sentence is left out)"
    assert "(confidence " in said[1]
    assert said[2].startswith("  hop 1 looked at (100%): mary went to the office")
    assert said[-1] == "there is no story yet"


def test_a_run_of_single_readers_is_asked_by_task(tmp_path, real_data, capsys):
    run = run_quickly(tmp_path, real_data, "--model", "lstm", "--train.steps", "4")
    told = tmp_path / "story.txt"
    told.write_text("Mary went to the office.\nWhere is Mary?\n")
    arguments = ["question_answering", "ask", "--run", str(run.path), "--file", str(told)]
    assert program.main(arguments) == 1
    assert "say which with --task" in capsys.readouterr().err
    assert program.main([*arguments, "--task", "1"]) == 0


@pytest.mark.full
def test_the_attention_of_a_run_with_facts_is_trained(tmp_path, real_data):
    run = run_quickly(tmp_path, real_data, "--supervision", "facts", "--train.steps", "40")
    losses = [entry.metrics["facts_nll"] for entry in run.metrics("train")]
    assert losses[-1] < losses[0]
    assert "facts_nll" in run.figures()


@pytest.mark.full
def test_the_larger_size_has_ten_times_the_questions(tmp_path, real_data):
    sizes = {
        size: len([each for each in datasets.load(f"babi-{size}", real_data).train if each.task == 1])
        for size in ("1k", "10k")
    }
    assert sizes["10k"] == pytest.approx(10 * sizes["1k"], rel=0.01)
    run = run_quickly(tmp_path, real_data, "--size", "10k")
    assert run.config["size"] == "10k"
    assert 0 <= run.figures()["failed_tasks"] <= len(TASKS)


@pytest.mark.full
def test_attentive_readers_of_single_tasks_are_a_run_like_any_other(tmp_path, real_data):
    run = run_quickly(tmp_path, real_data, "--readers", "single", "--train.steps", "4")
    saved = load_model(models.of_run(run.path, "question_answering"))
    assert {len(leaf) for leaf in jax.tree.leaves(saved.params)} == {len(TASKS)}
    assert run.figures()["failed_tasks"] == failed_by_counting(run.path, real_data)


def test_a_question_with_an_unknown_word_is_named_and_not_answered():
    language = Language.of([Question(1, (words("mary is here"),), words("where is mary"), "here", (0,))])
    said = list(
        asking.converse(["Mary is here.", "Where is John?"], language, lambda _: pytest.fail("asked"))
    )
    assert said == ["unknown: john (this question is left out)"]
    assert UNKNOWN in language.words.tokens


def test_the_papers_mean_and_failed_tasks_are_those_of_its_tasks():
    paper, *_ = page.PAPERS
    assert len(page.LSTM) == len(TASKS)
    assert round(paper.accuracy) == 49
    assert paper.failed == sum(accuracy < 95 for accuracy in page.LSTM)


def record_of(label, seed=1, accuracy=0.5, **config):
    metrics = {page.metric(task): accuracy for task in TASKS}
    metrics |= {"mean_accuracy": accuracy, "failed_tasks": 20.0}
    config = {"size": "1k", "supervision": "answers"} | config
    return Record("question_answering", label, "python", config, seed, metrics, "cpu", 60.0, "c", {})


def test_the_page_has_every_task_beside_the_paper():
    text = page.page([record_of("lstm-1k"), record_of("lstm-1k", 2, 0.6)])
    assert "| 4 | two-argument relations | 61 | 55.0 ± 7.1 |" in text
    assert "**lstm-1k**" in page.means([record_of("lstm-1k")])


def test_what_a_reader_was_trained_on_is_read_from_its_record():
    facts = record_of("attention-facts-10k", size="10k", supervision="facts")
    assert "| **attention-facts-10k** | 10,000 | used | 50.0 |" in page.means([facts])
    (row,) = page.results([facts])
    assert (row.data, row.paper) == ("bAbI, 10,000 questions a task", "")
    (row,) = page.results([record_of("attention-1k")])
    assert row.paper.count("Seo et al. 2017") == row.paper.count("87.6") == 1


def test_wrong_answers_are_written_with_story_and_facts():
    question = Question(1, (words("mary left"), words("john came")), words("who came"), "john", (1,))
    answered = Answered(question, "mary", 0.75, None)
    assert written(answered) == "  mary left.\n* john came.\n  who came?\n  said mary (75%), right is john\n"
    assert not answered.right


def test_presets_follow_the_model():
    assert preset(Config()).readers == "joint"
    assert preset(Config(model="lstm")).readers == "single"
