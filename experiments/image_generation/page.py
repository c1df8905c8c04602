"""The results page: DRAW with and without attention, beside published figures."""

from experiments.common.published import Benchmark, Published

GREGOR = "Gregor et al. 2015, 64 glimpses"
WAKEFORD = "Wakeford et al., a course project, 10 glimpses, 30 epochs"

NOTE = """\
DRAW (Gregor et al. 2015) draws a binary image in several glimpses: at each one an encoder, an LSTM, reads
the image and what is missing on the canvas, latent variables are drawn, and a decoder, another LSTM, writes
to the canvas. With attention it reads through 2 x 2 and writes through 5 x 5 Gaussian filters that the
decoder places; without, it reads and writes the whole image.

The bound is that on the negative log-likelihood of the 10,000 test images, in nats, the lower the better:
the mean over 50 samples of each. The estimate weighs the same samples by importance (Burda et al. 2016),
and comes nearer to the likelihood. Binarisation is dynamic: pixels are drawn with their brightness as
probability, anew in every epoch; the test images once and for all. The paper's figure is for other draws of
these pixels and 64 glimpses; it is taken from table 2 of "Variational Bi-LSTMs" (2017), which cites it, and
the paper's own figure without attention was not at hand. The course project of Wakeford, Afaq and Razavi
(the README of m1-deep-learning-draw-vae-mnist on GitHub) is nearest to our setting; it does not say how its
images are made binary.

At 10 glimpses attention is behind, here as there: a window of 5 x 5 filters adds less to the canvas at each
glimpse than a whole image does. That it is ahead at 64 glimpses is the paper's finding, and was not
measured here.

The learning rate and the first windows of the attention were chosen in runs of two epochs at most, by the
bounds of training and validation images. With a bias of 0, as the equations suggest it, the four filters
that read begin in the corners of the image, and the posterior stayed at the prior for the 1,100 steps that
we looked; windows that cover the image at first, and a weight of the KL that grows in the first 500 steps,
mend that. Minutes are of one core that much other work shared.

![Without attention](pictures/mnist-plain/drawing.png)

Without attention: canvases of six digits, which come out of a blur as wholes.

![Digits while they are drawn](pictures/mnist-attention/drawing.gif)

![Six digits, glimpse by glimpse](pictures/mnist-attention/drawing.png)

Digits that the network draws, with the windows that it writes to; outlines are as wide as the filters'
deviation, up to 3 pixels of the picture.

![Test images that are read and drawn](pictures/mnist-attention/reconstruction.png)

Test images with the windows that are read (green), and below them the canvases.

![Samples and their neighbours](pictures/mnist-attention/samples.png)

Samples, and below each the training image that is nearest to it: they are no copies. `python -m experiments
image_generation generate` draws others with the kept network."""

BENCHMARK = Benchmark(
    title="Image generation",
    metric="test_bound_nats",
    unit="nats per image",
    group_by="binarisation",
    groups={"dynamic": "MNIST, dynamic binarisation", "static": "MNIST, thresholded at a half"},
    published=(
        Published("dynamic", "DRAW", 80.97, GREGOR, "mnist-attention"),
        Published("dynamic", "DRAW", 105.54, WAKEFORD, "mnist-attention"),
        Published("dynamic", "DRAW without attention", 93.82, WAKEFORD, "mnist-plain"),
        Published("dynamic", "a VAE without recurrence", 102.86, WAKEFORD),
    ),
    note=NOTE,
    details={
        "test_iwae_nats": "importance-weighted estimate, nats",
        "test_reconstruction_nats": "reconstruction, nats",
        "test_kl_nats": "KL, nats",
    },
    digits=2,
)
PAGE = BENCHMARK.page
