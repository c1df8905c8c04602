"""The results page: the published results, and the records beside them."""

from experiments.common.published import Benchmark, Published

BENCHMARK = Benchmark(
    title="Language modelling",
    metric="test_perplexity",
    unit="perplexity",
    group_by="dataset",
    groups={"ptb": "Penn Treebank", "wikitext2": "WikiText-2", "shakespeare": "Shakespeare, characters"},
    published=(
        Published("ptb", "LSTM, small", 114.5, "Zaremba et al. 2014", "ptb-small"),
        Published("ptb", "LSTM, medium", 82.7, "Zaremba et al. 2014", "ptb-medium"),
        Published("ptb", "LSTM, large", 78.4, "Zaremba et al. 2014", "ptb-large"),
        Published("ptb", "AWD-LSTM, fine-tuned", 57.3, "Merity et al. 2018", "ptb-awd"),
        Published("ptb", "AWD-LSTM, not fine-tuned", 58.8, "Merity et al. 2018"),
        Published("ptb", "AWD-LSTM, fine-tuned, neural cache", 52.8, "Merity et al. 2018"),
        Published("ptb", "5-gram, modified Kneser-Ney", 141.2, "Mikolov et al. 2011", "ptb-kneser-ney"),
        Published("wikitext2", "LSTM of 1024 units", 99.3, "Grave et al. 2017"),
        Published("wikitext2", "AWD-LSTM, fine-tuned", 65.8, "Merity et al. 2018", "wikitext2-awd"),
        Published("wikitext2", "AWD-LSTM, fine-tuned, neural cache", 52.0, "Merity et al. 2018"),
    ),
    note="The whole test set, `<eos>` counted: the network reads it as one row from beginning to end, the "
    "first word given an `<eos>`; the n-grams (5 words, 8 characters) take it line by line. While "
    "training, the validation set is read in as many rows as a batch has, which is quicker; the "
    "validation figures here are of one row again. The first table has the epoch that is best on the "
    "validation set; the second one has the last epoch, too, which is that of Zaremba et al., and the "
    "nats per token. Shakespeare is cut at 90 and 95 per cent. nanoGPT has 1.4697 nats on its "
    "validation set, by which its best step was chosen; this set is the last tenth, our validation and "
    "test sets together, so it compares with the mean of our two columns of nats. The paper divides the "
    "medium size's rate by 1.2 after each epoch; 0.8 is the factor of later implementations. A "
    "fine-tuned run's minutes are of its own training alone. wikitext2-small has two epochs of the "
    "recipe's thirteen, one at the full rate; ptb-rnn and ptb-gru have eight, at a rate that was not "
    "searched for. Minutes are of cores that other work shared.",
    details={
        "test_perplexity_last": "last epoch, test",
        "valid_perplexity_last": "last epoch, validation",
        "test_nll": "nats per token, test",
        "valid_nll": "nats per token, validation",
    },
    digits=3,
)
