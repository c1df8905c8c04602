"""The results page: DRAW with and without attention, beside the paper."""

from experiments.common.published import Benchmark, Published

GREGOR = "Gregor et al. 2015, 64 glimpses, another binarisation"

BENCHMARK = Benchmark(
    title="Image generation: DRAW on binary MNIST",
    metric="test_bound_nats",
    unit="nats",
    group_by="binarisation",
    groups={
        "dynamic": "MNIST, dynamic binarisation",
        "static": "MNIST, thresholded",
    },
    published=(
        Published("dynamic", "DRAW", 80.97, GREGOR, "mnist-attention"),
        Published("dynamic", "DRAW without attention", 87.40, GREGOR, "mnist-plain"),
    ),
)
PAGE = BENCHMARK.page
