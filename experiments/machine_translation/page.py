"""The results page: the published result, and the records beside it."""

from experiments.common.published import Benchmark, Published
from experiments.machine_translation import report

BENCHMARK = Benchmark(
    title="Machine translation",
    metric="test2016_bleu",
    unit="BLEU",
    group_by="pair",
    groups={
        "en-de": "English to German",
        "de-en": "German to English",
        "en-fr": "English to French",
        "fr-en": "French to English",
        "en-es": "English to Spanish",
        "es-en": "Spanish to English",
    },
    published=(Published("en-de", "attention, text only", 38.1, "Caglayan et al. 2017", "en-de-attention"),),
    note="BLEU of beam search by sacrebleu on text as it is written (signature "
    f"`{report.SIGNATURE}`); chrF and the length ratios are in the records. Caglayan et al. "
    "(arXiv:1707.04481) count lower-case words, not text as it is written, which gives several points more: "
    "their figure cannot be compared with ours point by point. Models without attention have the form of "
    "Sutskever et al. 2014. Attention is for long sentences (Bahdanau et al. 2015): the second table has "
    "BLEU by the words of the source.",
    details={
        "test2016_greedy_bleu": "2016, greedy",
        "test2017_bleu": "2017, beam",
        "test2017_greedy_bleu": "2017, greedy",
        **{
            f"test2016_bleu_of_{shortest}_to_{longest}_words": f"2016, {shortest} to {longest} words"
            for shortest, longest in report.LENGTHS
        },
        "train_sentences_per_second": "sentences a second, training",
        "beam_sentences_per_second": "by beam search",
        "greedy_sentences_per_second": "greedily",
    },
)
