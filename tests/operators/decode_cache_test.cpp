// Decoding with a SelectionCache, against a model of it: brute force that remembers the survivors
// of every stage and their W0.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/attention_oracle.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/reference.hpp"
#include "support/run.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kMaxSeqLen = 420;

/// One request of a decode step.
struct Step {
  RequestSpec request;
  std::int32_t refresh_from = 0;
  std::int32_t slot = 0;
};

/// The library and the model, side by side over many steps.
template <TestedTypes P>
class Decoder {
 public:
  Decoder(Device device, const HipConfig& config, const Heads& heads, std::int64_t max_batch,
          std::int64_t num_slots)
      : config_(config),
        heads_(heads),
        shape_{device,        max_batch,         max_batch * kMaxDecodeRows,
               kMaxSeqLen,    heads.num_q_heads, heads.num_kv_heads,
               heads.head_dim},
        num_slots_(num_slots),
        slot_bytes_(make_plan<P>(Operator::kDecode, config, shape_).selection_cache_slot_bytes),
        cache_(device, num_slots * static_cast<std::int64_t>(slot_bytes_), std::byte{0}) {}

  /// Decodes one step and checks all that it gives, of units whose sums leave no doubt.
  void run(const std::vector<Step>& steps, bool with_slots = true) {
    std::vector<RequestSpec> specs;
    std::vector<std::int32_t> refresh_from;
    std::vector<std::int32_t> slots;
    for (const Step& step : steps) {
      specs.push_back(step.request);
      refresh_from.push_back(step.refresh_from);
      slots.push_back(step.slot);
    }
    const auto problem =
        make_problem<P>(heads_, specs, has_sums(config_) ? Values::kGaussian : Values::kExact);
    const DeviceBuffer<std::int32_t> refresh_memory(shape_.device, refresh_from);
    const DeviceBuffer<std::int32_t> slot_memory(shape_.device, slots);
    const auto batch = static_cast<std::int64_t>(steps.size());
    SelectionCache cache;
    cache.data = cache_.data();
    cache.num_slots = num_slots_;
    cache.refresh_from = {refresh_memory.data(), {batch}};
    if (with_slots) cache.slots = TensorView<const std::int32_t, 1>(slot_memory.data(), {batch});
    const std::vector<std::byte> before = cache_.read();
    const auto result = run_attention(Operator::kDecode, config_, problem,
                                      {.device = shape_.device, .cache = cache, .planned = shape_});
    REQUIRE(cache_.guards_intact());
    check_other_slots(before, slots);

    ExpectedCounters counters(config_);
    bool all_decided = true;
    for (const QueryBlock& block : query_blocks(problem, Operator::kDecode, config_)) {
      const Step& step = steps[block.request];
      for (std::int64_t head = 0; head < heads_.num_kv_heads; ++head) {
        const SearchResult& expected = model_step(problem, block, head, step);
        ++searches_;
        if (!expected.is_decided()) {
          all_decided = false;
          continue;
        }
        ++decided_;
        CAPTURE(block.request, head, block.p0, step.refresh_from);
        CHECK(result.selection.w0(block.request, head) == expected.w0);
        CHECK(result.selection.unit(block.request, head) == expected.blocks);
        counters.add(config_, block, expected);
        check_no_hole(expected, block);
      }
    }
    if (all_decided) CHECK(result.counters == counters.values);
    check_attention(Operator::kDecode, config_, problem, result);
  }

  /// Most of what the model says was compared: all of it, but where sums are within rounding.
  void check_most_decided() const { CHECK(4 * decided_ >= 3 * searches_); }

  [[nodiscard]] std::int64_t remembered_w0(std::int32_t slot) const {
    return model_.at({slot, 0}).w0;
  }

 private:
  const SearchResult& model_step(const Problem<P>& problem, const QueryBlock& block,
                                 std::int64_t head, const Step& step) {
    const std::pair unit(step.slot, head);
    const std::int64_t w0 = reference_window_start(config_, block.p0);
    const UnitScore<P> score(problem.requests[block.request], block, head, Operator::kDecode,
                             config_);
    const int stages = config_.num_stages();
    int first_stage = step.refresh_from;
    const auto search_ahead = ahead_.extract(unit);
    if (search_ahead) {  // the last stage is still to run, over what it left
      model_[unit] = search_ahead.mapped();
      if (first_stage < 0 || first_stage >= stages) first_stage = stages - 1;
    }
    const auto found = model_.find(unit);
    if (config_.is_window_only() || found == model_.end() || found->second.w0 > w0) first_stage = 0;
    const auto search = [&](int first) {
      return reference_search(config_, w0, score, std::min(first, stages),
                              first > 0 ? &found->second : nullptr);
    };
    if (first_stage >= 0) return model_[unit] = search(first_stage);
    SearchResult attended = search(stages);
    if (-1 - first_stage < stages - 1) {
      // A search of all stages, of whose last nothing is used.
      const SearchResult& left = ahead_[unit] = search(-1 - first_stage);
      attended.key_reads = left.key_reads;
      attended.key_reads.back() = 0;
      attended.margin = std::min(attended.margin, left.margin);
    }
    return model_[unit] = std::move(attended);
  }

  // Every key up to the row is attended once, or was a candidate of the search that is remembered.
  void check_no_hole(const SearchResult& selected, const QueryBlock& block) const {
    for (std::int64_t p = block.p0; p < block.p0 + block.rows; ++p) {
      const auto keys = attended_keys(config_, selected.blocks, selected.w0, p);
      REQUIRE(std::adjacent_find(keys.begin(), keys.end(), std::greater_equal<>()) == keys.end());
      const auto window = std::count_if(keys.begin(), keys.end(),
                                        [&](std::int64_t key) { return key >= selected.w0; });
      const std::int64_t most = config_.is_window_only() ? config_.window : kMaxSeqLen;
      REQUIRE(window == std::clamp<std::int64_t>(p + 1 - selected.w0, 0, most));
      REQUIRE(keys.back() == p);
    }
  }

  void check_other_slots(const std::vector<std::byte>& before,
                         const std::vector<std::int32_t>& used) const {
    const std::vector<std::byte> after = cache_.read();
    for (std::int32_t slot = 0; slot < num_slots_; ++slot) {
      if (std::find(used.begin(), used.end(), slot) != used.end()) continue;
      const auto first = static_cast<std::ptrdiff_t>(slot * slot_bytes_);
      REQUIRE(std::equal(before.begin() + first,
                         before.begin() + first + static_cast<std::ptrdiff_t>(slot_bytes_),
                         after.begin() + first));
    }
  }

  HipConfig config_;
  Heads heads_;
  AttentionShape shape_;
  std::int64_t num_slots_;
  std::size_t slot_bytes_;
  DeviceBuffer<std::byte> cache_;
  std::map<std::pair<std::int32_t, std::int64_t>, SearchResult> model_;
  std::map<std::pair<std::int32_t, std::int64_t>, SearchResult> ahead_;  ///< what searches left
  std::int64_t searches_ = 0;                                            // of units
  std::int64_t decided_ = 0;
};

Heads test_heads() { return {4, 2, least_head_dim()}; }

HipConfig single_stage_with_intervals() {
  HipConfig config = doubling_config();
  config.refresh_interval = {5};
  return config;
}

HipConfig small_config_of_sums() {
  HipConfig config = small_config();
  for (ScanStage& stage : config.stages) stage.reduction = Reduction::kSoftmaxSum;
  return config;
}

HipConfig without_sink() {
  HipConfig config = small_config();
  config.sink = 0;
  return config;
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "decoding with staggered refreshes is what the model says at every step") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config =
      GENERATE(small_config(), single_stage_with_intervals(), without_sink(),
               with_maxima(landmark_config()), landmark_config(), small_config_of_sums());
  const bool searches_ahead = GENERATE(false, true);
  CAPTURE(describe(config), searches_ahead);
  Decoder<TestType> decoder(device, config, test_heads(), 3, 5);
  const std::int64_t lengths[] = {20, 150, 333};
  for (std::int64_t step = 0; step < 72; ++step) {
    CAPTURE(step);
    std::vector<Step> steps;
    for (std::int32_t b = 0; b < 3; ++b) {
      // Request b is b steps ahead of its schedule, so that not all refresh in the same step.
      const std::int32_t due =
          searches_ahead ? refresh_ahead_at(config, step + b) : refresh_from_at(config, step + b);
      const std::int32_t refresh_from = step == 0 ? 0 : due;
      steps.push_back(
          {{lengths[b] + step, 1, static_cast<std::uint64_t>(b + 1)}, refresh_from, 4 - 2 * b});
    }
    decoder.run(steps);
  }
  decoder.check_most_decided();
}

HIP_ATTN_OPERATOR_TEST_CASE("a selection that is reused keeps its W0, and the window grows") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), without_sink());
  // From 10 keys on all are attended, with a sink or without: W0 is the sink and stays there.
  const std::int64_t first = GENERATE(10, 200);
  Decoder<TestType> decoder(device, config, test_heads(), 1, 1);
  decoder.run({{{first, 1, 1}, 0, 0}});
  const std::int64_t w0 = decoder.remembered_w0(0);
  CHECK(w0 == reference_window_start(config, first - 1));
  for (std::int64_t step = 1; step <= 64; ++step) {
    // Far beyond num_stages acts as num_stages.
    decoder.run({{{first + step, 1, 1}, step % 2 == 0 ? 3 : 1000000, 0}});
    REQUIRE(decoder.remembered_w0(0) == w0);
  }
  decoder.run({{{first + 65, 1, 1}, 0, 0}});
  CHECK(decoder.remembered_w0(0) == reference_window_start(config, first + 64));
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "stages from refresh_from on search the survivors of the stage before") {
  const HipConfig config = GENERATE(small_config(), doubling_config(),
                                    with_maxima(landmark_config()), landmark_config());
  Decoder<TestType> decoder(kCpu, config, test_heads(), 1, 1);
  Choices choices(1);
  decoder.run({{{300, 1, 1}, 0, 0}});
  for (std::int64_t step = 1; step < 40; ++step) {
    // Other rows, so that a stage that runs selects other blocks.
    const std::int64_t rows = choices.between(1, kMaxDecodeRows);
    decoder.run({{{300 + step * 2 + rows, rows, 1},
                  static_cast<std::int32_t>(choices.between(0, config.num_stages())),
                  0}});
  }
  decoder.check_most_decided();
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "a search ahead leaves the selection, and the next step runs the last stage") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = GENERATE(small_config(), doubling_config(), small_config_of_sums(),
                                    with_maxima(landmark_config()), landmark_config());
  Decoder<TestType> decoder(device, config, test_heads(), 2, 2);
  Choices choices(3);
  const auto any = [&] {
    return static_cast<std::int32_t>(
        choices.between(-config.num_stages() - 1, config.num_stages()));
  };
  decoder.run({{{250, 1, 1}, 0, 0}, {{150, 1, 2}, search_ahead_from(0), 1}});
  for (std::int64_t step = 1; step < 40; ++step) {
    const std::int64_t rows = choices.between(1, kMaxDecodeRows);
    decoder.run({{{250 + step * 2 + rows, rows, 1}, any(), 0}, {{150 + step * 3, 1, 2}, any(), 1}});
  }
  decoder.check_most_decided();
  decoder.run({{{360, 1, 1}, std::numeric_limits<std::int32_t>::min(), 0},
               {{300, 1, 2}, std::numeric_limits<std::int32_t>::min() + 1, 1}});
}

HIP_ATTN_OPERATOR_TEST_CASE("a search ahead of a request that is made shorter is forgotten") {
  const Device device = GENERATE(from_range(attention_devices<TestType>()));
  const HipConfig config = small_config();
  Decoder<TestType> decoder(device, config, test_heads(), 1, 1);
  decoder.run({{{303, 1, 1}, 0, 0}});
  decoder.run({{{323, 1, 1}, search_ahead_from(0), 0}});
  CHECK(decoder.remembered_w0(0) == reference_window_start(config, 302));
  SECTION("by so much that its W0 lies ahead") {
    decoder.run({{{303, 1, 1}, 3, 0}});
    CHECK(decoder.remembered_w0(0) == reference_window_start(config, 302));
  }
  SECTION("by two tokens, and it holds") {
    decoder.run({{{321, 1, 1}, 3, 0}});
    CHECK(decoder.remembered_w0(0) == reference_window_start(config, 322));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("an entry of zeroed memory refreshes itself whole") {
  const HipConfig config = small_config();
  for (const std::int32_t refresh_from : {0, 1, 2, 3, 9}) {
    Decoder<TestType> decoder(kCpu, config, test_heads(), 2, 2);
    decoder.run({{{250, 1, 1}, refresh_from, 0}, {{12, 2, 2}, refresh_from, 1}});
    CHECK(decoder.remembered_w0(0) == reference_window_start(config, 249));
  }
}

HIP_ATTN_OPERATOR_TEST_CASE(
    "an entry ahead of the sequence refreshes itself whole after a rollback") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 1, 1);
  decoder.run({{{303, 1, 1}, 0, 0}});
  SECTION("by more tokens than W0 can bear") {
    decoder.run({{{260, 1, 1}, 3, 0}});
    CHECK(decoder.remembered_w0(0) == reference_window_start(config, 259));
  }
  SECTION("by a token or two, W0 is the same and is reused") {
    decoder.run({{{301, 1, 1}, 3, 0}});
    CHECK(decoder.remembered_w0(0) == reference_window_start(config, 302));
  }
  SECTION("to almost nothing") {
    decoder.run({{{1, 1, 1}, 3, 0}});
    CHECK(decoder.remembered_w0(0) == config.sink);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("slots follow their requests, whatever row of the batch these are in") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 4, 6);
  Choices choices(2);
  std::vector<Step> requests = {
      {{100, 1, 1}, 0, 5}, {{210, 1, 2}, 0, 0}, {{280, 1, 3}, 0, 3}, {{33, 1, 4}, 0, 2}};
  for (std::int64_t step = 0; step < 24; ++step) {
    std::rotate(requests.begin(), requests.begin() + choices.between(0, 3), requests.end());
    // Not every request is in every step.
    const std::int64_t batch = choices.between(1, 4);
    for (std::int64_t b = 0; b < batch; ++b) {
      Step& request = requests[b];
      request.request.q_len = choices.between(1, 3);
      request.request.seq_len += request.request.q_len;
      request.refresh_from = static_cast<std::int32_t>(choices.between(0, 3));
    }
    decoder.run({requests.begin(), requests.begin() + batch});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("without slots, request b has slot b") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 3, 3);
  for (std::int64_t step = 0; step < 6; ++step) {
    const std::int32_t refresh_from = refresh_from_at(config, step);
    decoder.run({{{100 + step, 1, 1}, refresh_from, 0},
                 {{200 + step, 1, 2}, refresh_from, 1},
                 {{300 + step, 1, 3}, refresh_from, 2}},
                false);
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("a new request in an old slot starts with refresh_from 0") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 1, 1);
  decoder.run({{{100, 1, 1}, 0, 0}});
  decoder.run({{{300, 1, 2}, 0, 0}});
  CHECK(decoder.remembered_w0(0) == reference_window_start(config, 299));
}

HIP_ATTN_OPERATOR_TEST_CASE("requests without keys or rows leave their slots alone") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 3, 3);
  decoder.run({{{200, 1, 1}, 0, 0}, {{220, 1, 2}, 0, 1}, {{240, 1, 3}, 0, 2}});
  decoder.run({{{0, 2, 1}, 0, 0}, {{220, 0, 2}, 0, 1}, {{241, 1, 3}, 3, 2}});
  // What slots 0 and 1 remember is of the first step.
  decoder.run({{{202, 1, 1}, 3, 0}, {{222, 1, 2}, 3, 1}, {{242, 1, 3}, 3, 2}});
}

HIP_ATTN_OPERATOR_TEST_CASE("a window alone needs no selection to reuse") {
  Decoder<TestType> decoder(kCpu, window_only_config(), test_heads(), 1, 1);
  for (std::int32_t step = 0; step < 4; ++step) {
    decoder.run({{{100 + 7 * step, 1 + step, 1}, step, 0}});
  }
}

HIP_ATTN_OPERATOR_TEST_CASE("requests without keys or rows need no slot") {
  const HipConfig config = small_config();
  Decoder<TestType> decoder(kCpu, config, test_heads(), 4, 1);
  decoder.run({{{200, 1, 1}, 0, 0}, {{0, 1, 2}, 0, 0}, {{0, 0, 3}, 0, -1}, {{80, 0, 4}, 0, 99}});
  decoder.run({{{0, 1, 2}, 0, -1}, {{201, 1, 1}, 3, 0}, {{0, 2, 3}, 0, 0}, {{80, 0, 4}, 0, 0}});
}

HIP_ATTN_OPERATOR_TEST_CASE("random steps, slots and refreshes on random configurations") {
  Choices choices(3);
  for (int trial = 0; trial < 8; ++trial) {
    const HipConfig config = with_maxima(random_config(choices, 4));
    CAPTURE(trial, describe(config));
    Decoder<TestType> decoder(kCpu, config, test_heads(), 2, 3);
    std::int64_t lengths[] = {choices.between(1, 300), choices.between(1, 300),
                              choices.between(1, 300)};
    for (std::int64_t step = 0; step < 12; ++step) {
      CAPTURE(step);
      const std::int64_t first = choices.between(0, 2);
      std::vector<Step> steps;
      for (std::int64_t b = 0; b < 2; ++b) {
        const std::int64_t slot = (first + b) % 3;
        // Sometimes a rollback.
        lengths[slot] =
            choices.one_in(8) ? choices.between(8, 300) : lengths[slot] + choices.between(8, 17);
        steps.push_back({{lengths[slot], choices.between(0, 8), static_cast<std::uint64_t>(slot)},
                         static_cast<std::int32_t>(choices.between(0, 5)),
                         static_cast<std::int32_t>(slot)});
        lengths[slot] = std::min<std::int64_t>(lengths[slot], kMaxSeqLen - 20);
        steps.back().request.seq_len = lengths[slot];
      }
      decoder.run(steps);
    }
  }
}

TEST_CASE("per 32 steps the default refreshes its stages once, twice and four times") {
  const HipConfig config = presets::infinite_hip();
  std::int64_t runs[3] = {};
  for (std::int64_t step = 0; step < 32; ++step) {
    for (int s = refresh_from_at(config, step); s < 3; ++s) ++runs[s];
  }
  CHECK(runs[0] == 1);
  CHECK(runs[1] == 2);
  CHECK(runs[2] == 4);
}

}  // namespace
}  // namespace hip_attn
