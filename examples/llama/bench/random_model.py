"""A folder of a Llama model with random weights, for times: it has the bundled model's vocabulary."""

import json
import os
import pathlib
import shutil
import struct

LLAMA = pathlib.Path(__file__).resolve().parent.parent
LLAMA_3_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128,
}


def shapes(config):
    """{name: shape} of all tensors, in the names of Hugging Face."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    rows = config["num_attention_heads"] * config["head_dim"]
    kv_rows = config["num_key_value_heads"] * config["head_dim"]
    found = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        of_layer = {
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (rows, hidden), "self_attn.k_proj": (kv_rows, hidden),
            "self_attn.v_proj": (kv_rows, hidden), "self_attn.o_proj": (hidden, rows),
            "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        found |= {f"model.layers.{layer}.{name}.weight": s for name, s in of_layer.items()}
    return found


def weights(shape):
    """bfloat16: ones of a norm, and otherwise 256 different values from -1/32 to 1/32."""
    count = 1
    for size in shape:
        count *= size
    if len(shape) == 1:
        return struct.pack("<H", 0x3F80) * count
    values = [struct.unpack("<I", struct.pack("<f", (i - 127.5) / 4096))[0] >> 16 for i in range(256)]
    low, high = (bytes((value >> shift) & 255 for value in values) for shift in (0, 8))
    drawn = os.urandom(count)
    data = bytearray(2 * count)
    data[0::2], data[1::2] = drawn.translate(low), drawn.translate(high)
    return data


def write(folder, layers, **sizes):
    folder.mkdir(parents=True, exist_ok=True)
    bundled = LLAMA / "model"
    config = json.loads((bundled / "config.json").read_text(encoding="utf-8"))
    # No token ends a text of random weights.
    config = {**config, **sizes, "num_hidden_layers": layers, "eos_token_id": None}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / name, folder / name)
    tensors, begin = {}, 0
    for name, shape in shapes(config).items():
        size = 2
        for length in shape:
            size *= length
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, begin + size]}
        begin += size
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for shape in shapes(config).values():
            file.write(weights(shape))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
