"""Weights of published models, computed as their own code computes them.

Only files of the packages are read: ``pip install --no-deps g2p-en Resemblyzer silero-vad`` brings them.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmjax
from lstmjax import convert


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent


def _inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_the_lstms_of_resemblyzer_agree() -> None:
    torch = pytest.importorskip("torch")
    path = _folder("resemblyzer") / "pretrained.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    layer, params = convert.from_torch(state, prefix="lstm.")
    assert layer == lstmjax.stack(lstmjax.lstm(40, 256), lstmjax.lstm(256, 256), lstmjax.lstm(256, 256))
    module = torch.nn.LSTM(40, 256, 3, batch_first=True)
    own = {name.removeprefix("lstm."): array for name, array in state.items() if name.startswith("lstm.")}
    module.load_state_dict(own)
    inputs = _inputs(2, 20, 40)
    expected = module(torch.from_numpy(inputs))[0].detach()
    np.testing.assert_allclose(lstmjax.unroll(layer, params, inputs)[1], expected, atol=1e-5)


PRONUNCIATIONS = {
    "lstm": [58, 60, 46, 11, 47],  # S T L AH1 M
    "recurrent": [57, 38, 45, 30, 10, 48, 60],  # R IH0 K ER1 AH0 N T
    "gradient": [36, 57, 33, 24, 41, 10, 48, 60],  # G R EY1 D IY0 AH0 N T
}
"""What ``G2p().predict`` of g2p-en 2.1.0 returns, as numbers."""


def test_the_grus_of_g2p_spell_words() -> None:
    """Greedy decoding by the encoder and the decoder gives the pronunciations that the package gives."""
    arrays = np.load(_folder("g2p_en") / "checkpoint20.npz")

    def gru(part: str) -> Any:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return convert.from_torch(
            {name: arrays[f"{part}_{name.replace('weight', 'w').replace('bias', 'b')}"] for name in names}
        )

    (encoder, encoder_params), (decoder, decoder_params) = gru("enc"), gru("dec")
    letters = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
    for word, phonemes in PRONUNCIATIONS.items():
        numbers = [*(letters.index(letter) for letter in word), 2]
        state, _ = lstmjax.unroll(encoder, encoder_params, arrays["enc_emb"][np.array(numbers)])
        token = 2  # <s>
        for phoneme in [*phonemes, 3]:  # </s>
            state, output = decoder.step(decoder_params, state, arrays["dec_emb"][token])
            token = int(np.argmax(arrays["fc_w"] @ output + arrays["fc_b"]))
            assert token == phoneme, word


def _tensors(model: Any, names: tuple[str, ...], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Tensors within an ONNX model."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    have = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names), feeds)


def test_the_lstm_of_silero_agrees() -> None:
    onnx = pytest.importorskip("onnx")
    folder = _folder("silero_vad") / "data"
    model = onnx.load(folder / "silero_vad_16k_sequence.onnx")
    layer, params = convert.from_onnx(model)
    (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
    feeds = {value.name: _feed(value) for value in model.graph.input}
    x, y = _tensors(model, (node.input[0], node.output[0]), feeds)
    outputs = np.moveaxis(lstmjax.unroll(layer, params, np.moveaxis(x, 0, 1))[1], 0, 1)
    np.testing.assert_allclose(outputs, y[:, 0], atol=1e-5)


def _feed(value: Any) -> np.ndarray:
    sizes = [size.dim_value or 2 for size in value.type.tensor_type.shape.dim]
    return _inputs(*sizes) if value.name == "input" else np.zeros(sizes, np.float32)


def test_silero_has_the_same_weights_in_onnx_and_in_torchscript() -> None:
    torch = pytest.importorskip("torch")
    folder = _folder("silero_vad") / "data"
    scripted = convert.from_torch_model(torch.jit.load(folder / "silero_vad.jit"))
    within = convert.from_onnx_model(folder / "silero_vad.onnx")  # one for each branch of an If in an If
    assert set(scripted) == {"_model.decoder.rnn", "_model_8k.decoder.rnn"}
    assert len(within) == 4
    kernels = {np.asarray(params.recurrent_kernel).tobytes() for _, params in scripted.values()}
    assert kernels == {np.asarray(params.recurrent_kernel).tobytes() for _, params in within.values()}
