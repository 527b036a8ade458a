// Uses what needs no compiled library: views, conversions and the CPU backend's templates, for a
// head dim that no library was built with and a rule of this program's own.
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "call.hpp"
#include "hip_attn/cpu/merge.hpp"
#include "hip_attn/hip_attn.hpp"
#include "problem.hpp"

namespace {

using namespace hip_attn;

int failures = 0;

void check(bool good, const char* what, const Status& status = {}) {
  if (good) return;
  ++failures;
  std::printf("failed: %s %s\n", what, status.message().c_str());
}

void merges_rows() {
  std::array<float, 2 * 64> partial_out;
  for (int d = 0; d < 64; ++d) partial_out[d] = 1.f, partial_out[64 + d] = 5.f;
  const std::array<float, 2> partial_lse{0.f, std::log(3.f)};
  std::array<float, 64> out{};
  const MergeStatesArgs<float> args{
      .partial_out = {partial_out.data(), {2, 1, 1, 64}},
      .partial_lse = {partial_lse.data(), {2, 1, 1}},
      .out = {out.data(), {1, 1, 64}},
      .lse = {},
  };
  cpu::merge_row(args, 0, 0);
  check(std::abs(out[0] - 4.f) < 1e-5f, "two rows are merged");
}

constexpr double kTolerance = 1e-5;

// What is kept covers all candidates: attention is dense.
template <Element C>
void attends_to_everything(Operator op, std::int64_t rows) {
  HipConfig config;
  config.sink = 16;
  config.window = 32;
  config.block_q = 16;
  config.stages = {{.chunk_size = 16, .keep = 512}, {.chunk_size = 4, .keep = 512}};
  const Problem<C> problem(rows, 300);
  CallOf<cpu::PortableTraits<kHeadDim>, C> call(op, config, problem);
  check(call.run(), "a call with a budget for everything", call.status);
  double error = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<std::int64_t> keys;
    for (std::int64_t key = 0; key <= problem.position(row); ++key) keys.push_back(key);
    for (std::int64_t head = 0; head < kQueryHeads; ++head) {
      const std::int64_t at = row * kQueryHeads + head;
      error = std::max(error,
                       row_error(problem, row, head, keys, &call.out[at * kHeadDim], call.lse[at]));
    }
  }
  check(error <= kTolerance, "attention to everything is dense attention");
}

// The rule of this program: a chunk's last key.
struct LastKey {
  template <typename Logits>
  static std::int64_t read(const cpu::ChunkRange* chunks, int n, Logits& logits) {
    std::int32_t positions[cpu::kScanBatchChunks];
    int of_chunk[cpu::kScanBatchChunks];
    for (int i = 0; i < n; ++i) {
      positions[i] = chunks[i].r - 1;
      of_chunk[i] = i;
    }
    logits.template add<1>(positions, of_chunk, n);
    return n;
  }
};
using OwnRules = cpu::BuiltRules::With<LastKey>;
using OwnTraits = cpu::PortableTraits<kHeadDim, OwnRules>;

HipConfig own_config() {
  HipConfig config;
  config.sink = 8;
  config.window = 16;
  config.block_q = 16;
  config.stages = {{.chunk_size = 8, .keep = 64, .rule = ScanRule::kCustom}};
  return config;
}

// The blocks of rows [first, last) by the definition: chunks of 8 keys, of which the 8 are kept
// whose last key is the best for some row; equal ones: the lower.
template <Element C>
std::vector<std::int32_t> best_blocks(const Problem<C>& problem, std::int64_t first,
                                      std::int64_t last, std::int64_t kv_head, std::int64_t w0) {
  const HipConfig config = own_config();
  std::vector<std::pair<double, std::int32_t>> scored;
  for (std::int64_t start = config.sink; start < w0; start += 8) {
    double best = -1e30;
    for (std::int64_t row = first; row < last; ++row) {
      for (std::int64_t head = kv_head * kGroup; head < (kv_head + 1) * kGroup; ++head) {
        best = std::max(best, problem.product(row, head, start + 7));
      }
    }
    scored.emplace_back(-best, static_cast<std::int32_t>(start / 8));
  }
  std::sort(scored.begin(), scored.end());
  std::vector<std::int32_t> blocks;
  for (std::size_t i = 0; i < std::min<std::size_t>(scored.size(), 8); ++i) {
    blocks.push_back(scored[i].second);
  }
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

template <Element C>
void searches_by_a_rule_of_its_own(Operator op, std::int64_t rows) {
  const HipConfig config = own_config();
  const Problem<C> problem(rows, 400);
  CallOf<OwnTraits, C> call(op, config, problem);
  check(call.run(), "a call with a rule of its own", call.status);
  std::int64_t keys_read = 0;
  double error = 0;
  std::int64_t selection_row = 0;
  for (std::int64_t first = 0; first < rows; ++selection_row) {
    const std::int64_t p0 = problem.position(first);
    const std::int64_t last = op == Operator::kDecode
                                  ? rows
                                  : std::min(rows, first + config.block_q - p0 % config.block_q);
    const std::int64_t w0 = window_start(config, p0);
    for (std::int64_t kv_head = 0; kv_head < kKvHeads; ++kv_head) {
      const auto expected = best_blocks(problem, first, last, kv_head, w0);
      const std::int64_t unit = selection_row * kKvHeads + kv_head;
      const std::int32_t* const blocks = &call.blocks[unit * call.plan.max_selected_blocks];
      check(call.window_starts[unit] == w0, "the window starts where it should");
      check(std::vector<std::int32_t>(blocks, blocks + std::max(call.counts[unit], 0)) == expected,
            "the selection is the rule's");
      // Stages that can drop nothing read no key.
      const std::int64_t candidates = (w0 - config.sink) / 8;
      if (candidates > 8) keys_read += candidates;
      for (std::int64_t row = first; row < last; ++row) {
        std::vector<std::int64_t> keys;
        for (std::int64_t key = 0; key <= problem.position(row); ++key) {
          const bool selected = std::binary_search(expected.begin(), expected.end(), key / 8);
          if (key < config.sink || key >= w0 || selected) keys.push_back(key);
        }
        for (std::int64_t head = kv_head * kGroup; head < (kv_head + 1) * kGroup; ++head) {
          const std::int64_t at = row * kQueryHeads + head;
          error = std::max(
              error, row_error(problem, row, head, keys, &call.out[at * kHeadDim], call.lse[at]));
        }
      }
    }
    first = last;
  }
  check(error <= kTolerance, "rows attend to sink, selection and window");
  check(keys_read > 0 && call.counters[0] == keys_read, "keys read are counted");

  // What it selected, given.
  CallOf<OwnTraits, C> given(op, config, problem);
  check(given.run(call.selection()), "a call with a selection", given.status);
  check(given.out == call.out && given.lse == call.lse, "a given selection gives the same");
  check(given.counters[0] == 0, "a given selection is not searched for");
}

void reuses_a_cache() {
  const Problem<float> problem(2, 400);
  CallOf<OwnTraits, float> call(Operator::kDecode, own_config(), problem);
  std::vector<std::int64_t> memory((call.plan.selection_cache_slot_bytes + 7) / 8 + 2, 0);
  auto* data = reinterpret_cast<std::byte*>(memory.data());
  data += (16 - reinterpret_cast<std::uintptr_t>(data) % 16) % 16;
  std::int32_t refresh_from = 0;
  SelectionCache cache;
  cache.data = data;
  cache.num_slots = 1;
  cache.refresh_from = {&refresh_from, {1}};
  check(call.run({}, cache), "a decode step that fills a cache", call.status);
  const std::vector<float> out = call.out;
  const std::int64_t keys_read = call.counters[0];
  refresh_from = 1;
  check(call.run({}, cache), "a decode step that reuses a cache", call.status);
  check(call.out == out, "a reused selection gives the same");
  check(keys_read > 0 && call.counters[0] == keys_read, "a reused selection is not searched for");
}

void refuses_what_the_library_refuses() {
  const Problem<float> problem(1, 100);
  using Few = cpu::PortableTraits<kHeadDim>;
  CallOf<Few, float> rule(Operator::kDecode, own_config(), problem);
  check(rule.status.code() == StatusCode::kInvalidConfig, "a rule that the kernels do not have");
  CallOf<cpu::PortableTraits<kHeadDim + 16>, float> dim(Operator::kDecode, HipConfig{}, problem);
  check(dim.status.code() == StatusCode::kInvalidShape, "another head dim");

  CallOf<OwnTraits, float> call(Operator::kDecode, own_config(), problem);
  check(!call.run<Few>() && call.status.code() == StatusCode::kInvalidConfig,
        "a plan with a rule that the kernels do not have");
  using Wide = cpu::PortableTraits<kHeadDim + 16, OwnRules>;
  check(!call.run<Wide>() && call.status.code() == StatusCode::kInvalidShape,
        "a plan for another head dim");
  check(call.run(), "a plan of these kernels", call.status);
  call.plan.shape.max_seq_len = 99;
  check(!call.run() && call.status.code() == StatusCode::kExceedsPlan, "a sequence too long");
}

}  // namespace

int main() {
  merges_rows();
  for (const auto& [op, rows] : {std::pair{Operator::kPrefill, 300},
                                 {Operator::kPrefill, 37},
                                 {Operator::kDecode, 1},
                                 {Operator::kDecode, 8}}) {
    attends_to_everything<float>(op, rows);
    attends_to_everything<bfloat16>(op, rows);
    searches_by_a_rule_of_its_own<float>(op, rows);
    searches_by_a_rule_of_its_own<float16>(op, rows);
  }
  reuses_a_cache();
  refuses_what_the_library_refuses();
  std::printf("hip_attn headers %d.%d.%d: %d failures\n", HIP_ATTN_VERSION_MAJOR,
              HIP_ATTN_VERSION_MINOR, HIP_ATTN_VERSION_PATCH, failures);
  return failures == 0 ? 0 : 1;
}
