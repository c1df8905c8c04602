"""Conversion of parameters to and from the LSTMs, GRUs and Elman cells of other libraries.

Each ``from_*`` takes the module or plain arrays of a library and returns a cell or layer with its parameters;
each ``to_*`` returns what that library loads. Parameters are converted bit for bit, whatever their dtype,
with two exceptions that round once: two biases are added (those of PyTorch, cuDNN, ONNX and Keras's GRU), and
Haiku and TensorFlow add 1 to the forget gate in their code, which `lstmjax` includes in the bias. A round
trip that starts here returns the same bits; for Haiku, it does so if the forget gate's bias lies in 0.5..2.
The cell computes in the dtype that the module computes in, where that is known, else in that of the
parameters. Weights without biases give a cell with ``bias=False``, and the reverse, except that linen, NNX,
Haiku and cuDNN's flat weights always have biases: those of such a cell are zero there.

Several layers are a `lstmjax.stack`, a bidirectional layer is a `lstmjax.bidirectional`, several of those are
`lstmjax.layers`. For libraries that have only single cells (Flax, Equinox, Keras), the functions take and
return a list with one entry per layer, and `Directions` of two for a bidirectional layer. No library is
imported before it is needed; ``lstmjax.convert.formats.FORMATS`` is the table of their differences.

What computes something else than the cells of this library, such as a layer that goes backward, is refused.
Settings that change only training or the form of the data are not converted: dropout, the order of the axes,
the initial state. So ``to_*`` leave out the wrappers `lstmjax.dropout`, `recurrent_dropout`, `clip_gradient`
and `truncate_gradient`; wrap what ``from_*`` return anew, with the same parameters. For ensembles, with a
leading axis of models on all parameters, see `ensemble` and `members`.
"""

from lstmjax.convert.cudnn import from_cudnn, to_cudnn
from lstmjax.convert.equinox import from_equinox, to_equinox
from lstmjax.convert.flax import from_linen, from_linen_model, from_nnx, to_linen, to_nnx
from lstmjax.convert.haiku import from_haiku, to_haiku
from lstmjax.convert.keras import from_keras, to_keras
from lstmjax.convert.onnx import from_onnx, from_onnx_model
from lstmjax.convert.pytorch import from_torch, from_torch_model, to_torch
from lstmjax.convert.quantization import Int8, Quantized, quantize
from lstmjax.convert.structure import ensemble, members
from lstmjax.convert.tensorflow import from_tensorflow

__all__ = [
    "Int8",
    "Quantized",
    "ensemble",
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_linen_model",
    "from_nnx",
    "from_onnx",
    "from_onnx_model",
    "from_tensorflow",
    "from_torch",
    "from_torch_model",
    "members",
    "quantize",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_torch",
]
