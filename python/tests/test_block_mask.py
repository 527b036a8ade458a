"""bench/torch_flex.py: a selection of ours as FlexAttention's block mask. Skipped where there is no torch."""

import json
import pathlib
import sys

import numpy as np
import pytest

from hip_attn import Config, Stage

torch = pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

import torch_flex  # noqa: E402
from torch.nn.attention.flex_attention import create_mask, flex_attention  # noqa: E402

CONFIGS = {
    "blocks of 8": Config(sink=16, window=32, block_q=16, stages=(Stage(32, 192, 4), Stage(8, 64))),
    "blocks of 128": Config(sink=128, window=128, block_q=64, stages=(Stage(128, 256),)),
    "landmarks": Config(sink=16, window=32, block_q=16, stages=(
        Stage(16, 256, 4, "landmark", "softmax_sum"), Stage(8, 64, 4, "every_key"))),
    "dense": Config(window=1, stages=(Stage(8, 4096),)),
}


def whole_prompt(length):
    """q, k and v of a request, [1, heads, T, D]."""
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(1, heads, length, 64, generator=generator) for heads in (4, 2, 2))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_flex_attention_with_the_mask_attends_to_what_prefill_attends_to(config):
    q, k, v = whole_prompt(1000)
    out, selection = torch_flex.prefill(config, q, k, v)
    mask = torch_flex.block_mask(selection, 1000, q.shape[1], "cpu")
    flex = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    torch.testing.assert_close(flex, out, atol=2e-5, rtol=0)


def tiles_of(numbers, indices, shape):
    """[rows, columns] bool of the first head: the blocks that a BlockMask lists."""
    dense = np.zeros(shape, bool)
    for row, count in enumerate(numbers[0, 0]):
        dense[row, indices[0, 0, row, :count]] = True
    return dense


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_mask_lists_the_tiles_that_rows_attend_to_and_no_others(config):
    _, selection = torch_flex.prefill(config, *whole_prompt(1024))
    mask = torch_flex.block_mask(selection, 1024, 4, "cpu")
    attended = create_mask(mask.mask_mod, 1, 4, 1024, 1024, "cpu")[0, 0].numpy()
    rows, columns = mask.BLOCK_SIZE
    tiles = attended.reshape(1024 // rows, rows, 1024 // columns, columns).transpose(0, 2, 1, 3)
    whole = tiles_of(mask.full_kv_num_blocks, mask.full_kv_indices, tiles.shape[:2])
    part = tiles_of(mask.kv_num_blocks, mask.kv_indices, tiles.shape[:2])
    assert whole.any() and part.any() and not (whole & part).any()
    np.testing.assert_array_equal(whole | part, tiles.any((2, 3)))
    np.testing.assert_array_equal(whole, tiles.all((2, 3)))


def test_a_selection_is_read_from_files(tmp_path):
    _, selection = torch_flex.prefill(CONFIGS["blocks of 8"], *whole_prompt(100))
    for name in ("blocks", "counts", "window_start"):
        np.save(tmp_path / f"{name}.npy", getattr(selection, name))
    (tmp_path / "config.json").write_text(json.dumps({"sink": 16, "block_q": 16, "block_k": 8}))
    read = torch_flex.Selection.read(tmp_path)
    np.testing.assert_array_equal(read.blocks, selection.blocks)
    assert (read.sink, read.block_q, read.block_k) == (16, 16, 8)
