"""Reads and writes traces of what decode asks of a KV cache: the files of `llama generate --trace`,
whose format examples/llama/src/selection_trace.hpp describes. Those that end in .gz are compressed.
"""

import dataclasses
import gzip
import json
import pathlib


class TraceError(Exception):
    """A sentence for the user."""


@dataclasses.dataclass
class Step:
    """What one decode step of a layer and KV head asks for."""

    window_start: int
    chunk_tokens: int
    chunks: list  # first keys of what the last stage of the search cuts
    blocks: list  # numbers of the selected blocks
    searched: bool  # the chunks are not those of the step before
    selected: bool  # the blocks are not


@dataclasses.dataclass
class Trace:
    header: dict
    units: dict  # (layer, KV head): a Step for each decode step

    @property
    def num_steps(self):
        return len(next(iter(self.units.values())))


class _Numbers:
    """LEB128 numbers, one after the other."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def more(self):
        return self.at < len(self.content)

    def next(self):
        value = shift = 0
        while True:
            if not self.more():
                raise TraceError("it ends within a record")
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def list(self):
        numbers, last = [], 0
        for _ in range(self.next()):
            last += self.next()
            numbers.append(last)
        return numbers


def _open(path, mode):
    return gzip.open(path, mode) if pathlib.Path(path).suffix == ".gz" else open(path, mode)


def read(path):
    """A Trace. A list of chunks or blocks that did not change is the same object as before."""
    with _open(path, "rb") as file:
        line, _, content = file.read().partition(b"\n")
    try:
        header = json.loads(line)
        names = [(layer, head) for layer in header["layers"] for head in range(header["kv_heads"])]
        if header["format"] != "hip_attn selection trace 1" or not names:
            raise ValueError(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path} is not a trace of llama generate: {error!r}") from error
    units = {name: [] for name in names}
    numbers = _Numbers(content)
    try:
        while numbers.more():
            for name in names:
                flags = numbers.next()
                if units[name]:
                    step = dataclasses.replace(units[name][-1])
                elif flags == 3:
                    step = Step(0, 0, [], [], True, True)
                else:
                    raise TraceError(f"the first record of {name} is not whole")
                step.searched, step.selected = bool(flags & 1), bool(flags & 2)
                if step.searched:
                    step.window_start = numbers.next()
                    step.chunk_tokens = 1 << numbers.next()
                    step.chunks = numbers.list()
                if step.selected:
                    step.blocks = numbers.list()
                units[name].append(step)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    return Trace(header, units)


def _number(value):
    content = bytearray()
    while value >= 0x80:
        content.append(0x80 | value & 0x7F)
        value >>= 7
    content.append(value)
    return content


def _list(numbers):
    content, before = _number(len(numbers)), 0
    for number in numbers:
        content += _number(number - before)
        before = number
    return content


def write(path, trace):
    content = bytearray(json.dumps(trace.header).encode() + b"\n")
    for step in zip(*trace.units.values()):
        for of in step:
            content += _number(of.searched + 2 * of.selected)
            if of.searched:
                content += _number(of.window_start) + _number(of.chunk_tokens.bit_length() - 1)
                content += _list(of.chunks)
            if of.selected:
                content += _list(of.blocks)
    with _open(path, "wb") as file:
        file.write(content)
