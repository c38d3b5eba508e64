"""Run as a program of its own: `python -P model_export.py <weights directory> <target directory>`.

Loads a model through sentence-transformers and writes it for OpenVINO. In its own process, because torch's
gigabyte then goes away with it and its chatter reaches nobody. It imports nothing of this project.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

_TEXTS = ["The old bridge by the mill has fallen into the river.", "Oak.", "Who took my torches?"]
"""The network is traced on the first two, so that there is padding, and checked on all three."""
_TOLERANCE = 1e-3
"""Of the largest component: what fp32 loses by another order of additions is a hundredth of that."""


def export(weights: Path, target: Path) -> None:
    """Write openvino_model.xml, openvino_model.bin and tokenizer.json. Raises ValueError when they are wrong."""
    # Importing openvino sends a greeting to a statistics service unless this package is missing.
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
        wanted = network(**inputs).last_hidden_state
    written = openvino.Core().compile_model(
        target / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    made = written({name: value.numpy() for name, value in inputs.items()})["last_hidden_state"]
    seen = inputs["attention_mask"].bool()
    worst = (torch.from_numpy(made) - wanted)[seen].abs().max() / wanted[seen].abs().max()
    if not worst < _TOLERANCE:
        raise ValueError(f"the exported model differs from the original by {worst:.2g}")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
