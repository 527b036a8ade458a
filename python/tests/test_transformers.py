"""Hugging Face models with hip_attn. Skipped where there is no torch or no transformers."""

import copy
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import hip_attn  # noqa: E402
from hip_attn.transformers import PagedCache, attach, register  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples/llama/model"
DATA = ROOT / "examples/llama/data"
sys.path.append(str(ROOT / "examples/python"))

pytestmark = [
    pytest.mark.skipif(not FOLDER.exists(), reason="the bundled model is not here"),
    pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated"),
]
register()

# A search that leaves most keys of the short texts of these tests out.
SMALL = hip_attn.Config(
    sink=64,
    window=64,
    stages=(
        hip_attn.Stage(64, 256, rule="landmark", query_stride=4),
        hip_attn.Stage(8, 64, rule="every_key", query_stride=4),
    ),
)


def load(implementation, **arguments):
    arguments = {"dtype": torch.float32, **arguments}
    return transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER, attn_implementation=implementation, **arguments
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return load("hip_attn")


@pytest.fixture(scope="module")
def sdpa():
    return load("sdpa")


@pytest.fixture(scope="module")
def text(tokenizer):
    """The first tokens of the haystack, [1, 1536]."""
    words = (DATA / "haystack.txt").read_text()[:8000]
    return tokenizer(words, return_tensors="pt").input_ids[:, :1536]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def logits(model, ids, cache=None, **arguments):
    return model(ids, past_key_values=cache, **arguments).logits


def generate(model, ids, cache=None, tokens=12, **arguments):
    arguments = {"do_sample": False, "pad_token_id": 0, **arguments}
    if "attention_mask" not in arguments:
        arguments["attention_mask"] = torch.ones_like(ids)
    return model.generate(ids, past_key_values=cache, max_new_tokens=tokens, **arguments)


def pad(rows, left):
    """Rows of different lengths as a batch, with its mask."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(len(row))
        ids[i, place], mask[i, place] = row, 1
    return ids, mask


def positions(mask):
    return (mask.cumsum(1) - 1).clamp(min=0)


# Dense


def test_dense_logits_are_those_of_sdpa(model, sdpa, text):
    ours = logits(model, text, PagedCache(model.config, "dense"))
    torch.testing.assert_close(ours, logits(sdpa, text), atol=2e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_types(dtype, sdpa, text):
    text = text[:, :500]
    half = load("hip_attn", dtype=dtype)
    ours = logits(half, text, PagedCache(half.config, "dense")).float()
    theirs = logits(load("sdpa", dtype=dtype), text).float()
    exact = logits(sdpa, text)
    assert (ours - exact).abs().mean() < 1.5 * (theirs - exact).abs().mean()


def test_dense_greedy_generation_is_that_of_sdpa(model, sdpa, text):
    cache = PagedCache(model.config, "dense")
    expected = generate(sdpa, text[:, :1000], tokens=24)
    assert generate(model, text[:, :1000], cache, tokens=24).equal(expected)
    assert cache.seq_lens == [1023]


@pytest.mark.parametrize("padding", ["left", "right"])
def test_dense_logits_of_a_padded_batch_are_those_of_sdpa(model, sdpa, text, padding):
    ids, mask = pad([text[0, :300], text[0, 500:637]], padding == "left")
    arguments = {"attention_mask": mask, "position_ids": positions(mask)}
    ours = logits(model, ids, PagedCache(model.config, "dense"), **arguments)
    theirs = logits(sdpa, ids, **arguments)
    torch.testing.assert_close(ours[mask == 1], theirs[mask == 1], atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "family, sizes",
    [
        ("Llama", {"head_dim": 64, "num_key_value_heads": 1}),
        ("Llama", {"head_dim": 128, "num_key_value_heads": 4}),
        ("Llama", {"head_dim": 256, "num_key_value_heads": 2}),
        ("Qwen2", {"num_key_value_heads": 2}),
        ("Qwen3", {"head_dim": 64, "num_key_value_heads": 2}),
        ("Mistral", {"head_dim": 64, "num_key_value_heads": 2, "sliding_window": None}),
        ("Mistral", {"head_dim": 64, "num_key_value_heads": 2, "sliding_window": 50}),
        (
            "Qwen2",
            {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 50,
             "max_window_layers": 1},
        ),
        ("Gemma2", {"head_dim": 64, "num_key_value_heads": 2, "sliding_window": 50}),
    ],
)  # fmt: skip
def test_families_of_models(family, sizes):
    if sizes.get("head_dim", 64) not in hip_attn.built_head_dims():
        pytest.skip("the build is without this head dim")
    torch.manual_seed(1)
    config = getattr(transformers, family + "Config")(
        vocab_size=100, hidden_size=256, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, pad_token_id=0, **sizes,
    )  # fmt: skip
    model = getattr(transformers, family + "ForCausalLM")(config).eval()
    for parameter in model.parameters():
        parameter *= 3  # so that attention is not all but uniform
    ids = torch.randint(1, 100, (2, 150))
    model.set_attn_implementation("eager")
    expected = logits(model, ids)
    grown = generate(model, ids)
    model.set_attn_implementation("hip_attn")
    ours = logits(model, ids, PagedCache(config, "dense"))
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)
    assert generate(model, ids, PagedCache(config, "dense")).equal(grown)


def test_sinks_of_gpt_oss_take_their_share():
    torch.manual_seed(1)
    config = transformers.GptOssConfig(
        vocab_size=100, hidden_size=128, intermediate_size=64, num_hidden_layers=2, head_dim=64,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=2,
        sliding_window=50, pad_token_id=0,
    )  # fmt: skip
    model = transformers.GptOssForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter *= 3
    ids, mask = pad([torch.randint(1, 100, (150,)), torch.randint(1, 100, (97,))], left=True)
    arguments = {"attention_mask": mask, "position_ids": positions(mask)}
    model.set_attn_implementation("eager")
    expected = logits(model, ids, **arguments)
    sinks = [layer.self_attn.sinks for layer in model.model.layers]
    kept = [s.clone() for s in sinks]
    for s in sinks:
        s.fill_(float("-inf"))
    without = logits(model, ids, **arguments)
    for s, values in zip(sinks, kept):
        s.copy_(values)
    assert not torch.allclose(without[mask == 1], expected[mask == 1], atol=1e-2)
    model.set_attn_implementation("hip_attn")
    ours = logits(model, ids, PagedCache(config, "dense"), **arguments)
    torch.testing.assert_close(ours[mask == 1], expected[mask == 1], atol=1e-3, rtol=1e-3)


# Sparse


def test_a_search_leaves_keys_out(model, text):
    dense = logits(model, text, PagedCache(model.config, "dense"))
    sparse = logits(model, text, PagedCache(model.config, SMALL))
    assert not torch.allclose(dense[:, 1000:], sparse[:, 1000:], atol=1e-2)
    torch.testing.assert_close(dense[:, :128], sparse[:, :128], atol=2e-4, rtol=0)


def test_dense_layers_are_dense(model, text):
    every = range(model.config.num_hidden_layers)
    dense = logits(model, text, PagedCache(model.config, "dense"))
    assert logits(model, text, PagedCache(model.config, SMALL, dense_layers=every)).equal(dense)

    # What a layer makes of the text depends on the layers before it.
    def states(cache):
        return model(text, past_key_values=cache, output_hidden_states=True).hidden_states

    expected = states(PagedCache(model.config, "dense"))
    some = states(PagedCache(model.config, SMALL, dense_layers=[0, 1]))
    assert [a.equal(b) for a, b in zip(some, expected)][:4] == [True, True, True, False]


@pytest.mark.parametrize("attention", ["dense", SMALL], ids=["dense", "sparse"])
def test_a_prompt_in_pieces_is_the_prompt_whole(model, text, attention):
    whole = PagedCache(model.config, attention)
    expected = logits(model, text, whole)
    pieces = PagedCache(model.config, attention)
    got = torch.cat([logits(model, piece, pieces) for piece in text.split(512, 1)], 1)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
    assert generate(model, text, PagedCache(model.config, attention), prefill_chunk_size=512).equal(
        generate(model, text, PagedCache(model.config, attention))
    )


def test_attention_in_pieces_is_bit_for_bit_that_of_the_whole(model):
    torch.manual_seed(1)
    q, k, v = torch.randn(8, 2048, 128), *torch.randn(2, 2, 2048, 128)

    def attend(piece):
        (layer, *_) = PagedCache(model.config, SMALL).layers
        return torch.cat(
            [
                layer.attend(*(x[None, :, at : at + piece] for x in (q, k, v)), None, None, None)
                for at in range(0, 2048, piece)
            ],
            1,
        )

    assert attend(256).equal(attend(2048))


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_a_padded_batch_is_its_requests_alone(model, text, left):
    rows = [text[0, :1500], text[0, 500:1407], text[0, 100:103]]
    ids, mask = pad(rows, left)
    cache = PagedCache(model.config, SMALL)
    ours = logits(model, ids, cache, attention_mask=mask, position_ids=positions(mask))
    assert cache.seq_lens == [1500, 907, 3]
    for i, row in enumerate(rows):
        alone = logits(model, row[None], PagedCache(model.config, SMALL))[0]
        torch.testing.assert_close(ours[i][mask[i] == 1], alone, atol=2e-4, rtol=0)


def test_generation_of_a_padded_batch_is_that_of_its_requests_alone(model, text):
    rows = [text[0, :1500], text[0, 500:1407], text[0, 100:103]]
    ids, mask = pad(rows, left=True)
    got = generate(model, ids, PagedCache(model.config, SMALL), attention_mask=mask)[:, 1500:]
    for i, row in enumerate(rows):
        alone = generate(model, row[None], PagedCache(model.config, SMALL))
        assert got[i].equal(alone[0, len(row) :])


def test_sampled_generation_repeats_with_its_seed(model, text):
    def sample(seed):
        torch.manual_seed(seed)
        return generate(model, text, PagedCache(model.config, SMALL), do_sample=True, top_p=0.9)

    first = sample(1)
    assert sample(1).equal(first)
    assert not sample(2).equal(first)


def test_several_samples_of_a_prompt(model, text):
    cache = PagedCache(model.config, "dense")
    torch.manual_seed(1)
    out = generate(model, text[:, :200], cache, do_sample=True, num_return_sequences=3)
    assert out.shape[0] == 3 and len(cache.seq_lens) == 3


def test_beam_search_is_that_of_sdpa(model, sdpa, text):
    ids = text[:, :200]
    expected = generate(sdpa, ids, num_beams=3)
    assert generate(model, ids, PagedCache(model.config, "dense"), num_beams=3).equal(expected)


def test_assisted_generation_is_greedy_generation(model, text):
    ids = torch.cat([text[:, :600], text[:, :300]], 1)  # a text that repeats itself
    expected = generate(model, ids, PagedCache(model.config, "dense"), tokens=40)
    for tokens in (4, 20):
        cache = PagedCache(model.config, "dense")
        got = generate(model, ids, cache, tokens=40, prompt_lookup_num_tokens=tokens)
        # Earlier versions of transformers go past max_new_tokens.
        assert got[:, : expected.shape[1]].equal(expected)


def test_a_compiled_model_breaks_its_graph_at_attention():
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=1, head_dim=64,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.set_attn_implementation("hip_attn")
    ids = torch.randint(1, 100, (1, 90))
    expected = logits(model, ids, PagedCache(config, "dense"))
    got = logits(torch.compile(model, backend="eager"), ids, PagedCache(config, "dense"))
    torch.testing.assert_close(got, expected)


# The cache


def test_a_cropped_cache_goes_on_as_if_the_rest_had_not_been(model, text):
    expected = logits(model, text[:, :1200], PagedCache(model.config, SMALL))[:, 1024:]
    cache = PagedCache(model.config, SMALL)
    logits(model, text[:, :1024], cache)
    logits(model, text.flip(1)[:, :700], cache)
    cache.crop(-700)
    assert cache.get_seq_length() == 1024 and cache.seq_lens == [1024]
    got = logits(model, text[:, 1024:1200], cache)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
    cache.crop(1024)
    assert cache.seq_lens == [1024]
    cache.crop(0)
    assert cache.seq_lens == [1024]
    cache.crop(-5000)
    assert cache.get_seq_length() == 0


def test_a_cropped_cache_searches_anew(model, text):
    def answer(ids, cache):
        return torch.cat([logits(model, token, cache) for token in ids.split(1, 1)])

    cache, fresh = (PagedCache(model.config, SMALL, settling_steps=0) for _ in range(2))
    for c in (cache, fresh):
        logits(model, text[:, :1024], c)
    answer(text[:, 1024:1036], cache)
    cache.crop(-12)
    question = text[:, 300:316]
    assert answer(question, cache).equal(answer(question, fresh))


def test_a_padded_batch_is_cropped_by_columns(model, text):
    ids, mask = pad([text[0, :40], text[0, 50:60]], left=False)
    cache = PagedCache(model.config, "dense")
    logits(model, ids, cache, attention_mask=mask)
    cache.crop(-32)
    assert cache.seq_lens == [8, 8]


def test_requests_are_selected_and_repeated(model, text):
    ids = text[:, :600].reshape(3, 200)
    cache = PagedCache(model.config, SMALL)
    logits(model, ids, cache)
    more = text[:, 600:640]
    cache.batch_select_indices(torch.tensor([2, 0]))
    cache.batch_repeat_interleave(2)
    got = logits(model, torch.cat([more, more + 1] * 2), cache)
    for i, of in enumerate((2, 2, 0, 0)):
        alone = PagedCache(model.config, SMALL)
        logits(model, ids[of : of + 1], alone)
        expected = logits(model, more + i % 2, alone)
        torch.testing.assert_close(got[i : i + 1], expected, atol=2e-4, rtol=0)


def test_a_copy_of_a_cache_is_a_cache_of_its_own(model, text):
    cache = PagedCache(model.config, SMALL)
    logits(model, text[:, :1024], cache)
    other = copy.deepcopy(cache)
    expected = logits(model, text[:, 1024:1200], cache)
    assert logits(model, text[:, 1024:1200], other).equal(expected)


def test_a_cache_is_used_again_after_reset(model, text):
    cache = PagedCache(model.config, SMALL)
    generate(model, text, cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    ids = text[:, :800].reshape(2, 400)
    expected = generate(model, ids, PagedCache(model.config, SMALL))
    assert generate(model, ids, cache).equal(expected)


def test_padding_takes_no_memory(model, text):
    ids, mask = pad([text[0, :1024], text[0, :64]], left=True)
    cache = PagedCache(model.config, "dense")
    logits(model, ids, cache, attention_mask=mask)
    bytes_of_a_token = 2 * 2 * 128 * 4 * model.config.num_hidden_layers
    assert cache.nbytes == 1088 * bytes_of_a_token


# A model that makes its caches


@pytest.fixture(scope="module")
def attached():
    return attach(load("sdpa"), SMALL)


def test_an_attached_model_generates_as_with_a_cache_of_the_callers(attached, model, text):
    expected = generate(model, text, PagedCache(model.config, SMALL))
    assert generate(attached, text).equal(expected)
    assert generate(attached, text).equal(expected)
    ids, mask = pad([text[0, :1500], text[0, 500:1407]], left=True)
    expected = generate(model, ids, PagedCache(model.config, SMALL), attention_mask=mask)
    assert generate(attached, ids, attention_mask=mask).equal(expected)
    expected = generate(model, text, PagedCache(model.config, SMALL), num_beams=2)
    assert generate(attached, text, num_beams=2).equal(expected)


def test_a_forward_of_an_attached_model_makes_a_cache_that_it_returns(attached, model, text):
    expected = logits(model, text, PagedCache(model.config, SMALL))
    for arguments in ({}, {"use_cache": False}):
        assert attached(text, **arguments).logits.equal(expected)
    output = attached(text[:, :1024])
    cache = output.past_key_values
    assert isinstance(cache, PagedCache) and cache.seq_lens == [1024]
    rest = logits(attached, text[:, 1024:1216], cache)
    torch.testing.assert_close(rest, expected[:, 1024:1216], atol=2e-4, rtol=0)


def test_an_attached_model_uses_the_cache_that_it_is_given(attached, model, text):
    cache = PagedCache(attached.config, "dense")
    expected = generate(model, text, PagedCache(model.config, "dense"))
    assert generate(attached, text, cache).equal(expected)
    assert cache.seq_lens == [1547]


def test_an_attached_model_refuses_to_generate_without_a_cache_or_with_another_kind(attached, text):
    config = copy.deepcopy(attached.generation_config)
    config.use_cache = False
    for arguments in ({"use_cache": False}, {"generation_config": config}):
        with pytest.raises(ValueError, match="pass use_cache=True"):
            generate(attached, text, **arguments)
    with pytest.raises(ValueError, match="cache_implementation is 'static'"):
        generate(attached, text, cache_implementation="static")
    expected = generate(attached, text[:, :200], tokens=2)
    assert generate(
        attached, text[:, :200], tokens=2, cache_implementation="dynamic").equal(expected)


def test_attaching_again_replaces_the_arguments_and_copies_are_models_of_their_own(model, text):
    first = attach(copy.deepcopy(model), SMALL)
    second = attach(copy.deepcopy(first), "dense")
    assert len(second._forward_pre_hooks) == 1
    for own, attention in ((first, SMALL), (second, "dense")):
        assert own.generate.__self__ is own
        expected = logits(model, text, PagedCache(model.config, attention))
        assert own(text).logits.equal(expected)
    with pytest.raises(ValueError, match="dense_layers has 6"):
        attach(first, dense_layers=[6])


def test_an_attached_model_with_another_attention_again_is_as_without(model, sdpa, text):
    own = attach(copy.deepcopy(model), "dense")
    own.set_attn_implementation("sdpa")
    ids = text[:, :300]
    assert own(ids).logits.equal(logits(sdpa, ids))
    assert generate(own, ids).equal(generate(sdpa, ids))


def test_an_attached_assistant_drafts(attached, model, text):
    expected = generate(model, text, PagedCache(model.config, SMALL), tokens=20)
    draft = attach(copy.deepcopy(model), "dense")
    got = generate(attached, text, tokens=20, assistant_model=draft)
    assert got[:, : expected.shape[1]].equal(expected)


# Careless use


def test_another_cache_is_refused(model, text):
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    message = rf"pass {name}=hip_attn.transformers.PagedCache\(model.config\).*attach\(model\)"
    for arguments in ({}, {"use_cache": False}, {"past_key_values": transformers.DynamicCache()}):
        with pytest.raises(ValueError, match=message):
            model(text, **arguments)
    with pytest.raises(ValueError, match=message):
        generate(model, text)


def test_gradients_and_training_are_refused(model, text):
    cache = PagedCache(model.config)
    with torch.enable_grad(), pytest.raises(ValueError, match="no_grad"):
        model(text, past_key_values=cache)
    tiny = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, attention_dropout=0.1
    )
    training = transformers.LlamaForCausalLM(tiny)
    training.set_attn_implementation("hip_attn")
    with pytest.raises(ValueError, match="dropout is 0.1"):
        training.train()(text, past_key_values=PagedCache(tiny))


def test_masks_other_than_of_padding_are_refused(model, text):
    cache = PagedCache(model.config)
    square = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"attention_mask is \[1, 1, 10, 10\]"):
        logits(model, text[:, :10], cache, attention_mask=square)
    cache.reset()
    with pytest.raises(ValueError, match="it must be .1, 10."):
        logits(model, text[:, :10], cache, attention_mask=torch.ones(1, 12))


def test_arguments_of_other_attentions_are_refused(model, text):
    attention = model.model.layers[0].self_attn
    function = transformers.AttentionInterface()["hip_attn"]
    states = [torch.zeros(1, heads, 4, 128) for heads in (8, 2, 2)]
    refused = {
        "attention_bias": states[0],
        "output_attentions": True,
        "is_causal": False,
        "sliding_window": 7,
    }
    key, values = PagedCache(model.config).update(*states[1:], 0)
    for name, value in refused.items():
        with pytest.raises(ValueError, match=name):
            function(attention, states[0], key, values, None, **{name: value})


def test_configs_are_checked(model):
    with pytest.raises(ValueError, match="dense_layers has 6; the model has layers 0 to 5"):
        PagedCache(model.config, dense_layers=[6])
    with pytest.raises(hip_attn.Error, match="landmarks"):
        PagedCache(model.config, "landmarks")
    with pytest.raises(ValueError, match="encoder-decoder"):
        PagedCache(transformers.T5Config())
    chunked = copy.deepcopy(model.config)
    chunked.layer_types = ["chunked_attention"] * 6
    with pytest.raises(ValueError, match="layer 0 is of type 'chunked_attention'"):
        PagedCache(chunked)


def test_more_tokens_or_requests_than_the_cache_takes_are_refused(model, text):
    cache = PagedCache(model.config, "dense", max_len=100)
    with pytest.raises(ValueError, match="a request has 101 tokens; max_len of the cache is 100"):
        logits(model, text[:, :101], cache)
    logits(model, text[:, :100], cache)
    with pytest.raises(ValueError, match="a batch of 2; the cache holds 1 requests"):
        logits(model, text[:, :2].reshape(2, 1), cache)


def test_a_forward_that_broke_off_is_noticed(model, text):
    cache = PagedCache(model.config, "dense")

    def stop(*_):
        raise KeyboardInterrupt

    hook = model.model.layers[3].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        logits(model, text, cache)
    hook.remove()
    with pytest.raises(RuntimeError, match=r"reset\(\) the cache"):
        logits(model, text, cache)
    cache.reset()
    logits(model, text, cache)


# Codes in a long text


def codes_found(model, tokenizer, context, attention):
    from recall import run, timed_attention
    from recall_task import make_recall_task

    task = make_recall_task(tokenizer, DATA, context, seed=1)
    cache = PagedCache(model.config, attention, max_len=context)
    with timed_attention(model) as of_attention:
        return run(model, tokenizer, task, cache, 8192, of_attention).codes


def test_the_recall_text_is_that_of_the_engine(tokenizer):
    from recall_task import make_recall_task

    (expected,) = {
        run["text_tokens"]
        for run in json.loads((ROOT / "examples/llama/results/recall-cpu.json").read_text())["runs"]
    }
    assert len(make_recall_task(tokenizer, DATA, 16384, seed=1).text) == expected


def test_codes_are_found_in_8k_tokens(model, tokenizer):
    assert codes_found(model, tokenizer, 8192, "landmark") == 16


def test_what_recall_writes_is_what_bench_report_reads(tmp_path):
    path = tmp_path / "recall.json"
    program = ROOT / "examples/python/recall.py"
    arguments = ["--context", "2k", "--attention", "dense,flash_attention_2", "--device", "cpu"]
    subprocess.run([sys.executable, "-B", program, *arguments, "--json", path], check=True)
    content = json.loads(path.read_text())
    context, (measured,) = content["context"], content["benchmarks"]
    assert measured["name"] == "recall/2048/dense/seed1" and measured["real_time"] > 0
    assert measured["codes_asked"] == 16 and measured["digits_asked"] == 96
    assert {"codes", "digits", "step_seconds", "text_share", "cache_bytes"} < measured.keys()
    assert context["hip_attn"] == hip_attn.__version__ and torch.__version__ in context["compiler"]
    assert context["skipped"][0].startswith("recall/2048/flash_attention_2/seed1: the package ")


def test_tasks_are_rated_as_the_model_rates_their_answers(model, sdpa, tokenizer):
    from evaluate import encode, run, score

    sentence = "The secret code for amber is 482913. Remember it.\n"
    task = {
        "input": "It was the best of times. " * 10 + sentence + "It was the worst of times. " * 20,
        "answer_prefix": "\nQuestion: What is the secret code for amber? Answer: ",
        "answer": "482913.\n",
        "outputs": ["482913", "silver"],
        "new_tokens": 7,
    }
    prompt, answer = encode(tokenizer, task)
    assert prompt[0] == 0 and tokenizer.decode(answer) == task["answer"]
    with torch.no_grad():
        logits = sdpa(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).item()
    right = (logits.argmax(-1) == torch.tensor(answer)).float().mean().item()
    for of_model, cache in (
        (model, PagedCache(model.config, "dense", max_len=1024)),
        (sdpa, transformers.DynamicCache(config=sdpa.config)),
    ):
        result = run(of_model, tokenizer, task, cache, chunk=100)
        assert abs(result["answer_nll"] - expected) < 1e-3
        assert result["answer_right"] == pytest.approx(right)
        assert "482913" in result["generated"] and result["all"] == 0.5
    assert score("Abc 12", ["aBC", "3", "c 1"]) == pytest.approx(2 / 3)


@pytest.mark.slow
def test_codes_are_found_in_32k_tokens(model, tokenizer):
    assert codes_found(model, tokenizer, 32768, "landmark") >= 14


cuda = pytest.mark.skipif(
    not (torch.cuda.is_available() and hip_attn.built_with_cuda()),
    reason="no GPU, or no CUDA build",
)


@cuda
def test_codes_are_found_in_128k_tokens_on_a_gpu(tokenizer):
    # Dense attention finds 7 of the 16.
    model = load("hip_attn", dtype=torch.bfloat16).cuda()
    assert codes_found(model, tokenizer, 131072, "landmark") >= 5


@cuda
def test_a_padded_batch_on_a_gpu(text):
    model = load("hip_attn", dtype=torch.bfloat16).cuda()
    ids, mask = (x.cuda() for x in pad([text[0, :1500], text[0, 500:1407]], left=True))
    dense = PagedCache(model.config, "dense")
    ours = generate(model, ids, dense, attention_mask=mask)
    model.set_attn_implementation("sdpa")
    expected = generate(model, ids, attention_mask=mask)
    # In 16 bits the first tokens agree; what follows a near tie need not.
    assert ours[:, :1502].equal(expected[:, :1502])
