// The adapter of docs/guide/ggml.md gives what llama.cpp's mask asks for.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/ggml_layer.hpp"
#include "support/ggml_requests.hpp"
#include "support/llama_problem.hpp"

namespace hip_attn {
namespace {

using namespace test;
using namespace test::ggml_adapter;

void require_ok(const Status& status) {
  INFO(status.message());
  REQUIRE(status.ok());
}

template <Element T>
AttentionShape shape_of(const LlamaProblem<T>& problem) {
  return {.batch = 64,
          .total_q = 64,
          .max_seq_len = problem.cache.get_size(),
          .num_q_heads = LlamaProblem<T>::kQueryHeads,
          .num_kv_heads = LlamaProblem<T>::kKvHeads,
          .head_dim = problem.head_dim(),
          .num_threads = 3};
}

template <Element T>
void make_kind(const LlamaProblem<T>& problem, const HipConfig& config, LayerKind& kind) {
  require_ok(make_plans<T>(config, shape_of(problem), kind));
}

template <Element T>
void make_requests(const LlamaProblem<T>& problem, const LlamaMask& mask, LayerKind& kind) {
  require_ok(requests_of(problem.ubatch, problem.cache, mask.type, mask.n_swa, kind.decode.config,
                         kind.call));
}

// Attention of the ubatch through the nodes of a graph, kind.call being its requests:
// [tokens, Hq, D].
template <Element T>
std::vector<float> run_graph(LlamaProblem<T>& problem, ggml_tensor q, Layer& layer, bool sinks,
                             int threads) {
  ggml_context graph;
  ggml_tensor k = problem.k();
  ggml_tensor v = problem.v();
  ggml_tensor sink_logits = problem.sinks_tensor();
  REQUIRE(falls_back(q, k, v, {}) == nullptr);
  const ggml_tensor* out =
      build_attention<T>(&graph, &q, &k, &v, sinks ? &sink_logits : nullptr, &layer);
  compute(graph, threads);
  require_ok(layer.kind->status);
  const auto* values = static_cast<const float*>(out->data);
  return {values, values + out->ne[0] * out->ne[1] * out->ne[2]};
}

// Sums in fp32, and one rounding where the outputs have 16 bits.
void check_close(const std::vector<float>& out, const std::vector<double>& exact,
                 double rounding = 0) {
  REQUIRE(out.size() == exact.size());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    wrong += !(std::abs(out[i] - exact[i]) <= rounding * std::abs(exact[i]) + 3e-6);
  }
  CHECK(wrong == 0);
}

// float [tokens, Hq, D], dense.
std::vector<float> queries_of(const ggml_tensor& q) {
  std::vector<float> queries;
  for (std::int64_t token = 0; token < q.ne[1] * q.ne[3]; ++token) {
    for (std::int64_t head = 0; head < q.ne[2]; ++head) {
      const auto* row = reinterpret_cast<const float*>(static_cast<const char*>(q.data) +
                                                       token % q.ne[1] * q.nb[1] +
                                                       token / q.ne[1] * q.nb[3] + head * q.nb[2]);
      queries.insert(queries.end(), row, row + q.ne[0]);
    }
  }
  return queries;
}

template <Element T>
void check_ubatch(LlamaProblem<T>& problem, LayerKind& kind, const LlamaMask& mask,
                  const LlamaLogits& logits, int threads) {
  make_requests(problem, mask, kind);
  Layer layer{&kind, logits.scale, logits.softcap, {}};
  check_close(run_graph(problem, problem.q(), layer, logits.sinks, threads),
              problem.attention(mask, logits));
}

const LlamaMask kMasks[] = {{LLAMA_SWA_TYPE_NONE, 0},
                            {LLAMA_SWA_TYPE_STANDARD, 7},
                            {LLAMA_SWA_TYPE_CHUNKED, 8},
                            {LLAMA_SWA_TYPE_SYMMETRIC, 9}};

HIP_ATTN_TYPED_TEST_CASE("docs: llama.cpp's cells, whatever was done to them") {
  const bool unified = GENERATE(true, false);
  const LlamaMask mask = kMasks[GENERATE(0, 1, 2, 3)];
  std::int64_t decodes = 0;
  std::int64_t in_order = 0;
  std::int64_t steps = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    LlamaProblem<TestType> problem(unified, least_head_dim(), seed);
    const std::int64_t window = window_of(mask.type, mask.n_swa);
    LayerKind kind;
    make_kind(problem, window > 0 ? presets::sliding_window(window) : presets::dense(), kind);
    for (int step = 0; step < 12; ++step) {
      CAPTURE(unified, static_cast<int>(mask.type), seed, step);
      if (step > 2) edit_cells(problem, window == 0);
      append_tokens(problem, step % 2 == 0 ? 12 : 2);
      LlamaLogits logits{.sinks = step % 3 == 0};
      if (step % 5 < 2) logits.softcap = 2.f;
      check_ubatch<TestType>(problem, kind, mask, logits, 1 + step % 4);
      decodes += kind.call.decode;
      in_order += kind.call.in_order;
      ++steps;
    }
  }
  CHECK(decodes > 0);
  CHECK(decodes < steps);
  CHECK(in_order > 0);
  CHECK((in_order < steps) == unified);
}

// Two sequences of three tokens each in streams of their own.
template <Element T>
void place_streams(LlamaProblem<T>& problem) {
  std::vector<LlamaToken> tokens;
  for (const llama_seq_id seq : {0, 1}) {
    for (llama_pos pos = 0; pos < 3; ++pos) tokens.push_back({pos, {seq}});
  }
  problem.place(tokens);
}

HIP_ATTN_TYPED_TEST_CASE("docs: queries and outputs in the order of their tokens are not copied") {
  LlamaProblem<TestType> problem(false, least_head_dim(), 7);
  LayerKind kind;
  make_kind(problem, presets::dense(), kind);
  place_streams(problem);
  make_requests(problem, {}, kind);
  Layer layer{&kind, LlamaLogits{}.scale, 0.f, {}};
  ggml_tensor q = problem.q();
  const auto rows = rows_in_place(q, kind.call);
  REQUIRE(rows);
  CHECK(rows->data == q.data);
  CHECK(rows->sizes == std::array<std::int64_t, 3>{6, q.ne[2], q.ne[0]});

  ggml_context graph;
  ggml_tensor k = problem.k();
  ggml_tensor v = problem.v();
  build_attention<TestType>(&graph, &q, &k, &v, nullptr, &layer);
  std::ranges::fill(kind.out, kNaN);
  compute(graph, 2);
  require_ok(kind.status);
  CHECK(std::ranges::all_of(kind.out, [](float x) { return std::isnan(x); }));
  REQUIRE(graph.nodes.size() == 2);
  CHECK(std::ranges::all_of(graph.memory[0], [](std::byte b) { return b == std::byte{0xff}; }));
}

HIP_ATTN_TYPED_TEST_CASE("docs: queries of streams that do not follow one another") {
  LlamaProblem<TestType> problem(false, least_head_dim(), 9);
  LayerKind kind;
  make_kind(problem, presets::dense(), kind);
  place_streams(problem);
  make_requests(problem, {}, kind);
  Layer layer{&kind, LlamaLogits{}.scale, 0.f, {}};
  ggml_tensor q = problem.q();
  const std::size_t stream = q.nb[3] / sizeof(float);
  std::vector<float> apart(3 * stream, kNaN);
  const auto* values = static_cast<const float*>(q.data);
  std::copy_n(values, stream, apart.begin());
  std::copy_n(values + stream, stream, apart.begin() + 2 * stream);
  q.data = apart.data();
  q.nb[3] *= 2;
  CHECK_FALSE(rows_in_place(q, kind.call));
  check_close(run_graph(problem, q, layer, false, 2), problem.attention({}, {}));
}

TEST_CASE("docs: requests follow their first tokens") {
  LlamaProblem<AnyElement> problem(true, least_head_dim(), 5);
  LayerKind kind;
  const auto call_after = [&](const std::vector<LlamaToken>& tokens) {
    problem.place(tokens);
    make_requests(problem, {}, kind);
    return kind.call;
  };
  // Sequence 2 generates, 0 begins its prompt.
  const CellRequests call = call_after({{0, {2}}, {0, {0}}, {1, {0}}, {2, {0}}});
  CHECK(call.in_order);
  CHECK(call.sequences == std::vector<std::int32_t>{2, 0});
  CHECK_FALSE(call_after({{1, {2}}, {3, {0}}, {2, {2}}}).in_order);
}

HIP_ATTN_TYPED_TEST_CASE("docs: the tokens of an image share a position") {
  LlamaProblem<TestType> problem(true, least_head_dim(), 3);
  LayerKind kind;
  make_kind(problem, presets::dense(), kind);
  const auto text = [&](llama_pos first, llama_pos end) {
    std::vector<LlamaToken> tokens;
    for (llama_pos pos = first; pos < end; ++pos) tokens.push_back({pos, {0}, {pos, pos}});
    problem.place(tokens, 3);
    check_ubatch<TestType>(problem, kind, {}, {}, 2);
  };
  // Rows [first, end) of an image three tokens wide.
  const auto image = [&](llama_pos pos, llama_pos first, llama_pos end) {
    std::vector<LlamaToken> tokens;
    for (llama_pos y = first; y < end; ++y) {
      for (llama_pos x = 0; x < 3; ++x) tokens.push_back({pos, {0}, {pos + x, pos + y}});
    }
    problem.place(tokens, 3);
    check_ubatch<TestType>(problem, kind, {}, {}, 2);
    CHECK(kind.call.seq_lens.size() == 1);
  };
  text(0, 5);
  image(5, 0, 2);
  image(5, 2, 4);
  text(9, 12);
}

TEST_CASE("docs: rows of a sequence are one request where they can be") {
  LlamaProblem<AnyElement> problem(true, least_head_dim(), 5);
  using Rows = std::vector<std::int32_t>;
  const auto rows_of = [&](const LlamaMask& mask) {
    LayerKind kind;
    make_requests(problem, mask, kind);
    Rows rows(kind.call.seq_lens.size());
    const auto& starts = kind.call.cu_seqlens_q;
    std::transform(starts.begin() + 1, starts.end(), starts.begin(), rows.begin(), std::minus<>());
    return rows;
  };
  const auto append = [&](llama_pos first, llama_pos end) {
    std::vector<LlamaToken> tokens;
    for (llama_pos pos = first; pos < end; ++pos) {
      tokens.push_back({pos, {0}});
      tokens.push_back({pos, {1}});
    }
    problem.place(tokens);
  };
  append(0, 20);
  for (const LlamaMask& mask : {kMasks[0], kMasks[1], kMasks[3]})
    CHECK(rows_of(mask) == Rows{20, 20});
  CHECK(rows_of(kMasks[2]) == Rows{8, 8, 4, 8, 8, 4});  // chunks
  append(20, 21);
  for (const LlamaMask& mask : kMasks) CHECK(rows_of(mask) == Rows{1, 1});
  problem.cache.seq_rm(1, 17, 19);
  append(21, 29);
  CHECK(rows_of(kMasks[0]) == Rows{8, 8});
  // Sequence 1 has no key at positions 17 and 18. The windows of 7 of its first three rows begin at
  // positions 15, 16 and 17, and hold 5 keys each; then they grow to 7 and slide.
  CHECK(rows_of(kMasks[1]) == Rows{8, 1, 1, 6});
}

TEST_CASE("docs: two keys at one position of a window are refused") {
  LlamaProblem<AnyElement> problem(true, least_head_dim(), 5);
  problem.place({{0, {0}}, {1, {0}}, {1, {0}}, {2, {0}}});
  LayerKind kind;
  const Status status = requests_of(problem.ubatch, problem.cache, LLAMA_SWA_TYPE_STANDARD, 2,
                                    kind.decode.config, kind.call);
  CHECK(status.code() == StatusCode::kUnsupported);
  make_kind(problem, presets::dense(), kind);
  check_ubatch<AnyElement>(problem, kind, {}, {}, 1);
}

const HipConfig kSparse{.sink = 8,
                        .window = 8,
                        .block_q = 8,
                        .stages = {{.chunk_size = 8, .keep = 32, .query_stride = 2},
                                   {.chunk_size = 4, .keep = 16, .query_stride = 1}},
                        .refresh_interval = {4, 2}};

// The ubatch's attention over a contiguous copy of each request's keys: [rows, Hq, D], as the
// queries.
template <Element T>
std::vector<float> attend_contiguous(LlamaProblem<T>& problem, LayerKind& kind,
                                     const std::vector<float>& rows) {
  const CellRequests& call = kind.call;
  const auto requests = std::ssize(call.seq_lens);
  const ggml_tensor k_tensor = problem.k();
  const ggml_tensor v_tensor = problem.v();
  const std::int64_t row = LlamaProblem<T>::kKvHeads * problem.head_dim();
  std::vector<T> k(requests * call.max_seq_len * row);
  std::vector<T> v(k.size());
  for (std::int64_t b = 0; b < requests; ++b) {
    for (std::int64_t i = 0; i < call.seq_lens[b]; ++i) {
      const std::int64_t to = (b * call.max_seq_len + i) * row;
      const std::int64_t from = call.block_table[b * call.max_seq_len + i] * row;
      std::copy_n(static_cast<const T*>(k_tensor.data) + from, row, &k[to]);
      std::copy_n(static_cast<const T*>(v_tensor.data) + from, row, &v[to]);
    }
  }
  std::vector<float> out(rows.size());
  const std::array<std::int64_t, 3> sizes{std::ssize(call.rows), LlamaProblem<T>::kQueryHeads,
                                          problem.head_dim()};
  AttentionArgs<float, T> args;
  args.q = {rows.data(), sizes};
  args.kv = contiguous_kv(k.data(), v.data(), requests, call.max_seq_len, LlamaProblem<T>::kKvHeads,
                          problem.head_dim());
  args.seq_lens = {call.seq_lens.data(), {requests}};
  args.cu_seqlens_q = {call.cu_seqlens_q.data(), {requests + 1}};
  args.out = {out.data(), sizes};
  args.scale = LlamaLogits{}.scale;
  require_ok(call.decode ? run_decode(kind.decode, args, kind.workspace)
                         : run_prefill(kind.prefill, args, kind.workspace));
  return out;
}

HIP_ATTN_TYPED_TEST_CASE("docs: a search over cells finds what it finds in a contiguous cache") {
  LlamaProblem<TestType> problem(true, least_head_dim(), 11, 1024);
  LayerKind kind;
  make_kind(problem, kSparse, kind);
  std::vector<LlamaToken> tokens;
  for (llama_pos pos = 0; pos < 200; ++pos) {
    tokens.push_back({pos, {0}});
    tokens.push_back({pos, {1}});
  }
  problem.place(tokens);
  problem.cache.seq_rm(0, 50, 73);
  problem.cache.seq_cp(0, 2, 0, 190);
  for (const llama_pos rows : {1, 20}) {
    tokens.clear();
    for (llama_pos i = 0; i < rows; ++i) {
      for (const llama_seq_id seq : {2, 0, 1}) {
        tokens.push_back({problem.cache.get_cells(seq).seq_pos_max(seq) + 1 + i, {seq}});
      }
    }
    problem.place(tokens);
    make_requests(problem, {}, kind);
    Layer layer{&kind, LlamaLogits{}.scale, 0.f, {}};
    const std::vector<float> queries = queries_of(problem.q());
    const std::int64_t row = LlamaProblem<TestType>::kQueryHeads * problem.head_dim();
    std::vector<float> rows_of_call;
    for (const std::int32_t token : kind.call.rows) {
      rows_of_call.insert(rows_of_call.end(), queries.begin() + token * row,
                          queries.begin() + (token + 1) * row);
    }
    const std::vector<float> expected = attend_contiguous(problem, kind, rows_of_call);

    const std::vector<float> out = run_graph(problem, problem.q(), layer, false, 2);
    std::size_t different = 0;
    for (std::int64_t r = 0; r < std::ssize(tokens); ++r) {
      for (std::int64_t i = 0; i < row; ++i) {
        different += out[kind.call.rows[r] * row + i] != expected[r * row + i];
      }
    }
    CHECK(different == 0);
    // It drops keys, or the test would say nothing.
    const std::vector<double> dense = problem.attention({}, {});
    CHECK(std::abs(out[0] - dense[0]) > 1e-3);
  }
}

TEST_CASE("docs: selections are reused until the cells are edited") {
  LlamaProblem<AnyElement> problem(true, least_head_dim(), 13);
  LayerKind kind;
  make_kind(problem, kSparse, kind);
  Layer layer{&kind, LlamaLogits{}.scale, 0.f, {}};
  layer.selections.resize(kMaxSequences * kind.decode.selection_cache_slot_bytes);
  const auto run = [&](llama_pos first, llama_pos end) {
    std::vector<LlamaToken> tokens;
    for (llama_pos pos = first; pos < end; ++pos) tokens.push_back({pos, {3}});
    problem.place(tokens);
    make_requests(problem, {}, kind);
    run_graph(problem, problem.q(), layer, false, 1);
    return kind.call.refresh_from.at(0);
  };
  run(0, 60);
  std::vector<std::int32_t> from;
  for (llama_pos pos = 60; pos < 66; ++pos) from.push_back(run(pos, pos + 1));
  CHECK(from == std::vector<std::int32_t>{0, 2, 1, 2, 0, 2});
  CHECK(run(66, 69) == 1);  // three drafted tokens,
  problem.cache.seq_rm(3, 67, 69);
  CHECK(run(67, 68) == 2);  // one of which was accepted
  problem.cache.seq_rm(3, 20, 30);
  CHECK(run(68, 69) == 0);
  CHECK(run(69, 70) == 2);
  run(70, 82);  // a prompt
  CHECK(run(82, 83) == 0);
  CHECK(run(83, 84) == 2);
  kind.call.steps.erase(3);
  CHECK(run(84, 85) == 0);
}

TEST_CASE("docs: what falls back to ggml") {
  LlamaProblem<AnyElement> problem(true, least_head_dim(), 1);
  problem.place({{0, {0}}});
  ggml_tensor q = problem.q();
  ggml_tensor k = problem.k();
  ggml_tensor v = problem.v();
  LayerTraits traits;
  const auto reason = [&] {
    const char* text = falls_back(q, k, v, traits);
    return std::string(text ? text : "");
  };
  CHECK(reason().empty());
  const auto check = [&](auto& field, auto value, const char* expected) {
    const auto kept = field;
    field = value;
    CHECK(reason().find(expected) != std::string::npos);
    field = kept;
    CHECK(reason().empty());
  };
  check(traits.causal, false, "causal");
  check(traits.has_bias, true, "bias");
  check(traits.max_bias, 8.f, "bias");
  check(traits.n_kv_max, 2048, "picks keys");
  check(traits.on_host, false, "host");
  check(q.type, GGML_TYPE_F16, "F32");
  check(k.type, GGML_TYPE_Q8_0, "quantised");
  check(v.type, GGML_TYPE_Q8_0, "type");
  check(v.ne[0], k.ne[0] / 2, "head dim");
  check(v.nb[0], k.nb[1], "transposed");
  traits.has_window = true;
  check(traits.is_2d, true, "window");

  LayerKind kind;
  AttentionShape shape = shape_of(problem);
  shape.head_dim = 80;
  CHECK(make_plans<AnyElement>(presets::dense(), shape, kind).code() == StatusCode::kUnsupported);
}

}  // namespace
}  // namespace hip_attn
