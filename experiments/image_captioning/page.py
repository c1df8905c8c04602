"""The results page: captioners beside baselines, and where words look."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, seeds, table
from lstmjax.training.record import Record

TITLES = {
    "shapes": "Rendered shapes",
    "flickr8k": "Photographs: Flickr8k, as many as are at hand",
    "tuxpaint": "Stamps of Tux Paint",
}

INTRODUCTION = (
    "An encoder of convolutions, trained here from random parameters, gives the regions of a grid; an LSTM "
    "writes a caption, word by word. With attention (Show, Attend and Tell, Xu et al. 2015) it looks at the "
    "regions before each word; plain (Show and Tell, Vinyals et al. 2015) it sees their mean before the "
    "first.",
    "BLEU is from 0 to 100 (sacrebleu, closest reference length, no smoothing), CIDEr-D from 0 to 10, of "
    "captions in lower case and without punctuation; exact is the share of captions that equal a reference."
    " Mean ± sample standard deviation over seeds. Baselines: the first caption of the nearest training "
    "picture (thumbnails and colour histograms, cosine), a training caption at random, the most frequent "
    "words. *Encoder's neighbour* is the first caption of the training picture whose mean region is "
    "nearest.",
)

REMARKS = {
    "shapes": (
        "Of the 80 things (a size, a colour and a shape) 10 are in the test split alone, and 10 others in "
        "the validation split alone: every scene there has at least one thing that the model has never seen"
        " or named. A sentence counts only if all of it is right: sizes, colours, shapes, relations, their "
        "order.",
        "Half of the encoder's channels see contours without colours, the other half the picture "
        "(`--contours`). With `--no-contours`, one encoder for both, a few of the unseen things are hardly "
        "ever named right, such as the large white circle, which is taken for a square: of the large white "
        "things no round one is in the training split, and such an encoder learns which shapes go with which "
        "colours; deeper and wider ones did so more in pilots. The two streams were chosen on "
        "the validation split; records of one encoder, which these replaced, had read the test split before. "
        "The encoder's grid is lit where a word looks: words of a thing look at that "
        "thing, and the words before it look for it.",
        "![Where each word looks](pictures/shapes-attention/attention-1.png)",
        "![Captions of test scenes](pictures/shapes-attention/captions.png)",
    ),
    "flickr8k": (
        "Of the official splits only the photographs at hand are used: 753 to learn from, 113, and 125 for "
        "the test. The papers had 6,000, and encoders that knew the 1.2 million pictures of ImageNet: Xu et"
        " al. report a BLEU-4 of 19.5 and a BLEU-1 of 67 with soft attention on the whole test split (their"
        " table 1, read in a summary of the paper). Our figures cannot be compared with these; with "
        "`--features` and the full set their setting can be had. With 125 test photographs, differences of "
        "a few tenths of a BLEU-4 are of no meaning.",
        "![Captions of test photographs](pictures/flickr1k-attention/captions.png)",
        "![Where each word looks](pictures/flickr1k-attention/attention-1.png)",
        "Above each picture is the model's caption, below it the first of the five references. The captions"
        " tell dogs on grass from people, and little else; the attention is nearly uniform, as the doubly "
        "stochastic penalty wants it. Recipes were chosen on the validation split, but earlier runs, whose "
        "records were not kept, had printed test figures as well. Minutes are of one core beside other "
        "work; those of the first seed are without compiling.",
    ),
    "tuxpaint": (),
}

METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "cider", "exact")
DIGITS = {"cider": 3, "exact": 3}
HEADER = (
    *("model", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr-D", "exact", "validation CIDEr-D", "exact"),
    *("encoder's neighbour: BLEU-4", "CIDEr-D", "seeds", "minutes"),
)


def _line(label: str, chosen: Sequence[Record]) -> list[str]:
    figures = [mean_of(chosen, f"test_{metric}", DIGITS.get(metric, 1)) for metric in METRICS]
    valid = [mean_of(chosen, f"valid_{metric}") for metric in ("cider", "exact")]
    neighbour = [
        mean_of(chosen, f"test_encoder_nearest_{name}", DIGITS.get(name, 1)) for name in ("bleu4", "cider")
    ]
    return [f"**{label}**", *figures, *valid, *neighbour, str(seeds(chosen)), minutes(chosen)]


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Image captioning", *INTRODUCTION]
    for dataset, title in TITLES.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        if own:
            rows = [_line(label, chosen) for label, chosen in by_label(own).items()]
            parts += [f"## {title}", table([HEADER, *rows]), *REMARKS[dataset], commands(own)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


RESULTS = {
    "shapes-attention": ("shapes, unseen things", "% of sentences exact", "test_exact", 100.0),
    "flickr1k-attention": ("Flickr8k, 753 photographs", "BLEU-4", "test_bleu4", 1.0),
}
"""Labels of the README's table: what they are of, the unit, the metric and its scale."""


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for label, (data, unit, metric, scale) in RESULTS.items():
        chosen = [record for record in records if record.label == label]
        if chosen:
            rows.append(Row(data, label, unit, "", mean_of(chosen, metric, 1, scale), chosen))
    return rows


PAGE = Page(page, results)
