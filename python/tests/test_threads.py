"""Threads of the caller that run one call together."""

import threading

import numpy as np
import pytest
from reference import nan_like, problem
from test_sparse import DESCENT

import hip_attn


def run_in_parts(p, decode, parts):
    """out of one call, of which each thread runs a part, and a function that runs one."""
    plan = p.plan(DESCENT, decode, num_threads=3)
    workspace = hip_attn.Workspace(plan.workspace_bytes)
    team = hip_attn.ThreadTeam(parts)
    out = nan_like(p.q)
    call = hip_attn.decode if decode else hip_attn.prefill
    pages = p.pages()

    def part(number):
        call(plan, workspace, p.q, pages, **p.arrays(), out=out, team=team, part=number)

    threads = [threading.Thread(target=part, args=(number,)) for number in range(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out, part


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_call_in_parts_is_the_call(decode, parts):
    p = problem([1, 2] if decode else [50, 20], [900, 700])
    np.testing.assert_array_equal(run_in_parts(p, decode, parts)[0], p.run(DESCENT, decode))


def test_parts_and_teams_that_do_not_exist_are_refused():
    _, part = run_in_parts(problem([1], [100]), True, 2)
    with pytest.raises(hip_attn.Error, match="part") as refused:
        part(2)
    assert refused.value.status == "InvalidShape"
    with pytest.raises(hip_attn.Error, match="size is 0") as refused:
        hip_attn.ThreadTeam(0)
    assert refused.value.status == "InvalidArgument"
