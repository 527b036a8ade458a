"""PyTorch's FlexAttention with a selection of hip_attn as its block mask."""

import dataclasses
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from torch_results import median_seconds

TILE = 64  # keys that FlexAttention's kernel takes at once; its masks have blocks of as many


@dataclasses.dataclass
class Selection:
    """What the query blocks of one request attend to (hip_attn/selection.hpp), and the fields of the
    configuration that it was made with. Arrays: blocks [R, Hk, M], counts and window_start [R, Hk]."""

    blocks: np.ndarray
    counts: np.ndarray
    window_start: np.ndarray
    sink: int
    block_q: int
    block_k: int

    @classmethod
    def read(cls, folder):
        """As cuda_prefill_bench --selection_out has written it."""
        folder = pathlib.Path(folder)
        arrays = [np.load(folder / f"{name}.npy") for name in ("blocks", "counts", "window_start")]
        return cls(*arrays, **json.loads((folder / "config.json").read_text(encoding="utf-8")))


def prefill(config, q, k, v):
    """hip_attn's output for a whole prompt, [1, Hq, T, D], and its Selection. q: [1, Hq, T, D]; k and v:
    [1, Hk, T, D], on any one device."""
    import hip_attn

    rows = lambda x: x[0].transpose(0, 1).contiguous()
    ints = lambda *values: torch.tensor(values, dtype=torch.int32, device=q.device)
    length, kv_heads, head_dim = q.shape[2], k.shape[1], k.shape[3]
    plan = hip_attn.plan_prefill(
        config, num_q_heads=q.shape[1], num_kv_heads=kv_heads, head_dim=head_dim, max_seq_len=length,
        total_q=length, dtype=q.dtype, device=q.device)
    workspace = hip_attn.Workspace(
        torch.empty(max(1, plan.workspace_bytes), dtype=torch.uint8, device=q.device))
    pages = hip_attn.KvPages(rows(k)[None], rows(v)[None])  # the request is one page
    of_units = (plan.selection_rows, kv_heads)
    blocks = torch.zeros(*of_units, plan.max_selected_blocks, dtype=torch.int32, device=q.device)
    counts, window_start = (torch.zeros(of_units, dtype=torch.int32, device=q.device) for _ in range(2))
    queries = rows(q)
    out = torch.empty_like(queries)
    call = dict(seq_lens=ints(length), cu_seqlens_q=ints(0, length), out=out,
                selection_out=hip_attn.Selection(blocks, counts, window_start))
    levels = [
        hip_attn.LandmarkLevel(size, torch.empty(1, length // size, kv_heads, 2, head_dim,
                                                 dtype=q.dtype, device=q.device), None)
        for size in config.landmark_chunk_sizes()
    ]
    if levels:
        call["landmarks"] = hip_attn.Landmarks(levels)
        hip_attn.update_landmarks(call["landmarks"], pages, from_lens=ints(0), to_lens=ints(length))
    hip_attn.prefill(plan, workspace, queries, pages, **call)
    arrays = (x.cpu().numpy() for x in (blocks, counts, window_start))
    return out.transpose(0, 1)[None], Selection(
        *arrays, config.sink, config.block_q, config.stages[-1].chunk_size)


class Selections:
    """Selections by preset and length: from a folder, written by cuda_prefill_bench when asked, or by
    hip_attn's package of Python."""

    def __init__(self, folder, program, heads):
        self.folder, self.program, self.heads = folder, program, heads

    def __enter__(self):
        self.own = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *error):
        self.own.cleanup()

    def of(self, preset, q, k, v):
        """For queries, keys and values of one prompt; those from files are of others of the same
        shape. RuntimeError: there is neither folder, program nor package."""
        length = q.shape[2]
        shape = f"1x{length}/{length}/{self.heads}/p16"
        name = f"{preset}-{shape.replace('/', '-')}"
        if self.folder is not None:
            return Selection.read(pathlib.Path(self.folder, name))
        if self.program is not None and pathlib.Path(self.program).exists():
            command = [self.program, f"--benchmark_filter=bfloat16/{preset}/{shape}/",
                       f"--selection_out={self.own.name}"]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode != 0:
                raise RuntimeError(f"{self.program}: {run.stderr.strip() or run.returncode}")
            return Selection.read(pathlib.Path(self.own.name, name))
        try:
            from hip_attn import Config
        except ImportError as error:
            raise RuntimeError("a selection takes cuda_prefill_bench or the hip_attn package") from error
        return prefill(Config.preset(preset, max_len=length), q, k, v)[1]


def attended_blocks(selection, length, device):
    """[Hk, query blocks, blocks of block_k keys] bool: which of them rows attend to, but for what lies
    behind a row."""
    units = -(-length // selection.block_q)
    count = -(-length // selection.block_k)
    tensor = lambda array: torch.from_numpy(np.ascontiguousarray(array[:units])).to(device)
    blocks, counts = tensor(selection.blocks).long(), tensor(selection.counts)
    first = tensor(selection.window_start) // selection.block_k
    numbers = torch.arange(count, device=device)
    attended = (numbers < selection.sink // selection.block_k) | (numbers >= first[:, :, None])
    chosen = torch.arange(blocks.shape[2], device=device) < counts[:, :, None]
    row, head, place = chosen.nonzero(as_tuple=True)
    attended[row, head, blocks[row, head, place]] = True
    return attended.transpose(0, 1).contiguous()


def block_mask(selection, length, q_heads, device):
    """A BlockMask in which every row attends to what it attends to in hip_attn."""
    attended = attended_blocks(selection, length, device)
    kv_heads, units, count = attended.shape
    group = q_heads // kv_heads
    block_q, block_k = selection.block_q, selection.block_k
    tile = max(TILE, block_k)
    tiles = -(-length // tile)
    padded = torch.nn.functional.pad(attended, (0, tiles * tile // block_k - count))
    of_tile = padded.view(kv_heads, units, tiles, tile // block_k)
    keys = torch.arange(tiles, device=device) * tile
    first_row = torch.arange(units, device=device)[:, None] * block_q
    reached = keys <= first_row + block_q - 1  # by the last row of a query block
    whole = of_tile.all(-1) & (keys + tile - 1 <= first_row)
    part = of_tile.any(-1) & reached & ~whole

    def ordered(dense):
        dense = dense.repeat_interleave(group, dim=0)[None].to(torch.int8)
        return dense.sum(-1, dtype=torch.int32), torch.argsort(
            dense, dim=-1, descending=True, stable=True).int()

    def attends(b, h, q, kv):
        return attended[h // group, q // block_q, kv // block_k] & (kv <= q)

    return BlockMask.from_kv_blocks(*ordered(part), *ordered(whole), BLOCK_SIZE=(block_q, tile),
                                    mask_mod=attends, seq_lengths=(length, length))


def seconds(selection, q, k, v):
    """Of a call; making the mask is not counted."""
    mask = block_mask(selection, q.shape[2], q.shape[1], q.device)
    tiles = {"BLOCK_M": selection.block_q, "BLOCK_N": TILE}
    compiled = torch.compile(flex_attention, dynamic=False)
    return median_seconds(
        lambda: compiled(q, k, v, block_mask=mask, enable_gqa=True, kernel_options=tiles))
