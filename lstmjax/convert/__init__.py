"""Parameters to and from the LSTMs of other libraries.

Each ``from_*`` takes what a library has, its module or plain arrays, and returns a cell or layer with its
parameters; each ``to_*`` gives what that library loads. Parameters go over bit for bit, whatever their dtype
(the cell computes in it), with two exceptions that round once: PyTorch's and cuDNN's two biases are added,
and Haiku and TensorFlow add 1 to the forget gate in their code, which `lstmjax` has in the bias. Both
directions of a round trip that starts here give the same bits, and for Haiku do so where the forget gate's
bias lies in 0.5..2.

Several layers of LSTMs are a `lstmjax.stack`, a bidirectional layer is a `lstmjax.bidirectional`, several of
those are `lstmjax.layers`. Libraries that have only single LSTMs (Flax, Equinox, Keras) give and take a list
with one entry for each layer, and `Directions` of two for a bidirectional one. No library is imported here
before it is needed; ``lstmjax.convert.formats.FORMATS`` is the table of how they differ. What is not a parameter,
such as dropout or the order of the axes of the data, does not come along.
"""

from lstmjax.convert.cudnn import from_cudnn, to_cudnn
from lstmjax.convert.equinox import from_equinox, to_equinox
from lstmjax.convert.flax import from_linen, from_nnx, to_linen, to_nnx
from lstmjax.convert.haiku import from_haiku, to_haiku
from lstmjax.convert.keras import from_keras, to_keras
from lstmjax.convert.pytorch import from_torch, to_torch
from lstmjax.convert.tensorflow import from_tensorflow

__all__ = [
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_tensorflow",
    "from_torch",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_torch",
]
