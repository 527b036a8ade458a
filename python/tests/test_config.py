"""Configurations: presets, stages, the authors' JSON, and what is refused."""

import dataclasses
import pickle

import pytest

import hip_attn
from hip_attn import Config, Stage

PRESETS = ["infinite_hip", "infinite_hip_fast", "infinite_hip_softmax_sum", "infinite_hip_5k",
           "landmark", "landmark_1k", "hip_classic", "sliding_window", "dense"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_config_of_its_values(name):
    config = Config.preset(name, max_len=131072, k=512, block_k=2, window=1024, sink=4)
    assert Config(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)
                     if f.init}) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(dataclasses.replace(config))


def test_a_preset_can_be_changed():
    config = Config.preset("infinite_hip")
    assert config.sink == 256 and config.window == 1024
    assert config.stages[0] == Stage(256, 32768, 4, "descent", "maximum", 32)
    assert [config.refresh_from_at(step) for step in (0, 1, 8, 16, 32)] == [0, 3, 2, 1, 0]
    assert [config.refresh_ahead_at(step) for step in (0, 1, 8, 15, 16, 31, 32)] == [
        0, 3, 2, -2, 2, -1, 2]
    wider = dataclasses.replace(config, window=2048)
    assert wider.window_start(100_000) < config.window_start(100_000)
    assert Config.preset("landmark", max_len=131072).landmark_chunk_sizes() == [64]


@pytest.mark.parametrize(
    "make, status, words",
    [
        (lambda: Config(window=0), "InvalidConfig", "window is 0"),
        (lambda: Config(window=-1), "InvalidConfig", "window"),
        (lambda: Config(stages=(Stage(3, 6),)), "InvalidConfig", "power of two"),
        (lambda: Config(stages=(Stage(8, 64, 0),)), "InvalidConfig", "query_stride is 0"),
        (lambda: Config(stages=(Stage(8, 64, rule="best"),)), "InvalidConfig", "rule is 'best'"),
        (lambda: Config(stages=(Stage(8, 64),) * 33), "InvalidConfig", "32"),
        (lambda: Config.preset("nothing"), "InvalidArgument", "infinite_hip"),
        (lambda: Config.preset("landmark"), "InvalidConfig", "max_len"),
        (lambda: hip_attn.ModelConfig("{"), "MalformedJson", "JSON|json|byte|end"),
        (lambda: hip_attn.ModelConfig('{"using_extend": false, "x": 1}'), "UnknownKey", "x"),
    ],
)
def test_what_breaks_a_rule_is_refused(make, status, words):
    with pytest.raises(hip_attn.Error, match=words) as refused:
        make()
    assert refused.value.status == status
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.status, str(again)) == (status, str(refused.value))


def test_json_of_the_authors_package():
    model = hip_attn.ModelConfig('{"using_extend": false, "dense_layers": [0, 2]}')
    assert model.dense_layers == [0, 2]
    assert model.decode(1).stages and model.prefill(1).stages
    assert model.prefill_dense_until >= 0
    assert all(isinstance(note, str) for note in model.notes)


def test_what_the_build_has():
    assert 64 in hip_attn.built_head_dims()
    assert "float32" in hip_attn.built_dtypes()
    assert hip_attn.cpu_instruction_set() in ("x86-64-v4", "x86-64-v3", "baseline")
    assert hip_attn.built_with_cuda() in (False, True)
    assert hip_attn.__version__.count(".") == 2
    hip_attn.check_device("cpu")
    with pytest.raises(ValueError, match="tpu"):
        hip_attn.check_device("tpu")
    with pytest.raises(hip_attn.Error):
        hip_attn.check_device("cuda:999")
