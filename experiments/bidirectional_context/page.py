"""The results page: networks that know the past, the future, both, and the past with a delay."""

from collections.abc import Sequence

from experiments.bidirectional_context.data import SOURCES
from experiments.bidirectional_context.task import PLACES
from experiments.common.experiment import Page
from experiments.common.tables import Row, commands, minutes, spread_of, table
from lstmjax.training.record import Record

MAIN = tuple(
    f"{dataset}-{direction}" for dataset in SOURCES for direction in ("past", "delayed", "both", "future")
)
"""Labels of the networks that are compared; those of other delays have the delay after them."""

TITLES = {"digits": "Spoken digits", "protein": "Secondary structure of proteins"}

INTRODUCTION = (
    "Every frame of a sequence has a label. How well can it be told from what came before, from what "
    "comes after, from both, and from what came before with answers that are a few frames late?",
    "Each row is of five networks with initial parameters of their own, which learn side by side from"
    " the same batches: the mean, and the range. All have one layer of LSTMs and a softmax, and "
    "equally many parameters to within 1 %, so a network in both directions has two smaller LSTMs. A "
    "delayed network reads some frames beyond the one that it labels, and zeros after the end.",
    "The recipe (Adam, 0.005 with a cosine schedule, 15 passes over the digits, 3 over the proteins) "
    "and the delay of 8 were set before the first run, and nothing was tuned; of each network the "
    "parameters with the highest accuracy on the validation set are tested. Minutes are of two cores "
    "that much other work shared.",
    "Graves and Schmidhuber 2005 labelled the phonemes of TIMIT, which is not free. They found "
    "networks in both directions to be more accurate than those in one; their figures are of other "
    "data, and are not repeated here.",
    "![Accuracy against the delay](pictures/delays.png)",
    "![Accuracy by place](pictures/places.png)",
)

REMARKS = {
    "digits": (
        "Every frame, 10 ms of log mel energies, is to say which digit is spoken. The speakers of "
        "the test are those of the training, by the official split.",
        "A network that knows the past has to guess at the start and is right at the end. One that "
        "knows the future is its mirror image, and worse, perhaps because digits end more alike "
        "than they begin: one, seven and nine. A network that knows both is right at nearly every "
        "frame, so it is the context that was missing, and not parameters; where one direction "
        "knows everything, that direction alone is slightly better, with more units for it. A delay"
        " of 8 frames lets the past hear 80 ms more before it answers, and closes more than half of"
        " the gap to both directions; 16 frames close nearly all of it, for answers that come "
        "later. By the majority of its frames a recording is recognised almost as well from the "
        "past alone.",
        "![The probability of the right digit at every frame](pictures/digit.png)",
        "The picture has a recording of the validation set, and the probability of the right digit "
        "by the first of each five networks; answers of the delayed one are shown at the frames "
        "that they are for.",
    ),
    "protein": (
        "Every residue, an amino acid with its profile, is to say helix, strand or coil (Q3). The "
        "chains are those of `protein_structure`, in a split of our own, and some chains of the "
        "test have a relative in the other splits.",
        "The structure of a residue depends on its neighbours on both sides, and these are near: a "
        "delay of 8 residues, two turns of a helix, has nearly all that both directions have. What "
        "comes after tells more than what came before. The very ends of a chain are mostly coil: "
        "networks in one direction have learnt that of the end where they begin, delayed ones, "
        "which read zeros after the last residue, of both; those in both directions have learnt it "
        "less well in three passes, and are less often right there.",
    ),
}


def delay_of(record: Record) -> int:
    """The delay of a network that reads forward, 0 without."""
    delay: int = record.config["delay"]
    return delay


def of_dataset(records: Sequence[Record], dataset: str) -> list[Record]:
    """The records of a data set: past, delayed by the delay, both, future."""
    order = ("past", "delayed", "both", "future")
    own = [record for record in records if record.config["dataset"] == dataset]
    return sorted(own, key=lambda record: (order.index(record.config["direction"]), delay_of(record)))


def place_titles() -> list[str]:
    """What the groups of frames in `PLACES` are called: 1, 2, 3-4, and so on."""
    after = [*PLACES[1:], None]
    return [_range(first, end) for first, end in zip(PLACES, after, strict=True)]


def _range(first: int, after: int | None) -> str:
    if after is None:
        return f"{first} on"
    return f"{first}" if after == first + 1 else f"{first}-{after - 1}"


def _knows(record: Record) -> str:
    direction, delay = record.config["direction"], delay_of(record)
    frame = SOURCES[record.config["dataset"]].frame
    return {
        "past": "what came before",
        "delayed": f"what came before, and the next {delay} {frame}s",
        "both": "everything",
        "future": "what comes after",
    }[direction]


HEADER = [
    "networks",
    "know",
    "test, %",
    "validation, %",
    "sequences with most right, %",
    "units",
    "parameters",
    "minutes",
]


def _row(record: Record) -> list[str]:
    sides = "2 of " if record.config["direction"] == "both" else ""
    return [
        f"**{record.label}**",
        _knows(record),
        spread_of(record, "test_accuracy", 1, 100),
        spread_of(record, "valid_accuracy", 1, 100),
        spread_of(record, "test_most", 1, 100),
        f"{sides}{record.metrics['hidden']:.0f}",
        f"{record.metrics['parameters']:,.0f}",
        minutes([record]),
    ]


def _comparison(records: Sequence[Record]) -> str:
    return table([HEADER, *map(_row, records)])


def _places(records: Sequence[Record], end: str) -> str:
    rows = [[f"from the {end}", *place_titles()]]
    for record in records:
        shares = [f"{100 * record.metrics[f'test_{end}_{place}']:.1f}" for place in PLACES]
        rows.append([f"**{record.label}**", *shares])
    return table(rows)


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Bidirectional context", *INTRODUCTION]
    for dataset, title in TITLES.items():
        own = of_dataset(records, dataset)
        if own:
            main = [record for record in own if record.label in MAIN]
            parts += [f"## {title}", *REMARKS[dataset], _comparison(own)]
            parts += [_places(main, "start"), _places(main, "end"), commands(own)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results: without what comes after, and with it."""
    rows = []
    for label in (label for label in MAIN if label.endswith(("-past", "-both"))):
        chosen = [record for record in records if record.label == label]
        if chosen:
            data = TITLES[chosen[0].config["dataset"]].lower()
            unit = f"% of {SOURCES[chosen[0].config['dataset']].frame}s right"
            ours = spread_of(chosen[0], "test_accuracy", 1, 100)
            rows.append(Row(data, label, unit, "", ours, chosen))
    return rows


PAGE = Page(page, results)
