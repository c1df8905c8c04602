"""Conversion of parameters to and from the LSTMs of other libraries.

Each ``from_*`` takes the module or plain arrays of a library and returns a cell or layer with its parameters;
each ``to_*`` returns what that library loads. Parameters are converted bit for bit, whatever their dtype (the
cell computes in it), with two exceptions that round once: PyTorch's and cuDNN's two biases are added, and
Haiku and TensorFlow add 1 to the forget gate in their code, which `lstmjax` includes in the bias. A round
trip that starts here returns the same bits; for Haiku, it does so if the forget gate's bias lies in 0.5..2.

Several layers of LSTMs are a `lstmjax.stack`, a bidirectional layer is a `lstmjax.bidirectional`, several of
those are `lstmjax.layers`. For libraries that have only single LSTMs (Flax, Equinox, Keras), the functions
take and return a list with one entry per layer, and `Directions` of two for a bidirectional layer. No library
is imported before it is needed; ``lstmjax.convert.formats.FORMATS`` is the table of their differences.
Settings other than parameters, such as dropout or the order of the axes of the data, are not converted.
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
