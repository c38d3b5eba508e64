"""Converts a model to OpenVINO through sentence-transformers: `python -P model_export.py WEIGHTS_DIR TARGET_DIR`.

A separate program, run by `model_preparation`: the memory that torch takes (about 1 GB) is freed when it ends,
and what torch prints does not reach the user. It imports nothing of this project.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

_TEXTS = ["The old bridge by the mill has fallen into the river.", "Oak.", "Who took my torches?"]
"""The network is traced on the first two, so that the trace contains padding, and checked on all three."""
_TOLERANCE = 1e-3
"""The largest allowed difference of a component, as a share of the largest component.

In float32 another order of the additions makes a difference of a hundredth of this."""


def export(weights: Path, target: Path) -> None:
    """Write openvino_model.xml, openvino_model.bin and tokenizer.json of the model in `weights` into `target`.

    Raises ValueError when the model has no fast tokenizer, or when the written network computes other values than
    the original.
    """
    # With this package importable, importing openvino sends usage statistics.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    # Imported by name, because torch is not installed where the types are checked.
    openvino: Any = importlib.import_module("openvino")
    torch: Any = importlib.import_module("torch")
    sentence_transformers: Any = importlib.import_module("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(weights), device="cpu")
    network, tokenizer = model[0].auto_model.eval(), model[0].tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("the model has no tokenizer.json")
    with torch.no_grad():
        example = dict(tokenizer(_TEXTS[:2], padding=True, return_tensors="pt"))
        converted = openvino.convert_model(network, example_input=example)
        openvino.save_model(converted, target / "openvino_model.xml", compress_to_fp16=False)
        tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
        inputs = dict(tokenizer(_TEXTS, padding=True, return_tensors="pt"))
        expected = network(**inputs).last_hidden_state
    compiled = openvino.Core().compile_model(
        target / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    actual = compiled({name: value.numpy() for name, value in inputs.items()})["last_hidden_state"]
    tokens = inputs["attention_mask"].bool()
    difference = (torch.from_numpy(actual) - expected)[tokens].abs().max() / expected[tokens].abs().max()
    if not difference < _TOLERANCE:
        raise ValueError(f"the exported model differs from the original by {difference:.2g}")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
