#include "result_cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "hip_attn/config.hpp"

namespace hip_attn::bench {
namespace {

using NamedConfig = std::pair<const char*, HipConfig>;

HipConfig small() {
  HipConfig config;
  config.sink = 16;
  config.window = 24;
  config.block_q = 16;
  config.stages = {{32, 128, 4}, {8, 64, 2}, {4, 32, 1}};
  return config;
}

// Both rules, and a first stage whose chunk size doubles.
HipConfig centre() {
  HipConfig config;
  config.sink = 8;
  config.window = 10;
  config.block_q = 8;
  config.stages = {{16, 64, 4, ScanRule::kCentre}, {4, 32, 2}, {2, 16, 8, ScanRule::kCentre}};
  config.max_first_chunks = 8;
  return config;
}

// Single rows and single keys.
HipConfig smallest() {
  HipConfig config;
  config.block_q = 1;
  config.stages = {{16, 48, 1}, {1, 8, 1}};
  return config;
}

// Stages, of which none runs.
HipConfig window_of_stages() {
  HipConfig config = small();
  config.window = 21;
  config.stages.back().keep = 0;
  return config;
}

constexpr std::int64_t kPresetKeys = 65536;  // the longest request of any device

// More chunks than shared memory of a GPU holds, in a plan for kManyKeys.
constexpr std::int64_t kManyKeys = 200000;
HipConfig many_chunks() {
  HipConfig config;
  config.sink = 8;
  config.window = 16;
  config.stages = {{2, 256, 4}, {1, 128, 1}};
  config.max_first_chunks = 100000;
  return config;
}

// More query rows than shared memory of a GPU holds, with 16 query heads to a KV head.
HipConfig many_rows() {
  HipConfig config = small();
  config.block_q = 256;
  return config;
}

// Two levels of landmarks, a page of keys smaller than a chunk, and both reductions.
HipConfig landmarks() {
  HipConfig config;
  config.sink = 64;
  config.window = 70;
  config.block_q = 16;
  config.stages = {{64, 512, 4, ScanRule::kLandmark},
                   {16, 128, 4, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {8, 64, 2, ScanRule::kEveryKey, Reduction::kSoftmaxSum},
                   {4, 32, 1, ScanRule::kEveryKey}};
  return config;
}

// Landmarks of less than a tile of keys, then descents of what they leave.
HipConfig landmark_descent() {
  HipConfig config;
  config.sink = 8;
  config.window = 24;
  config.block_q = 8;
  config.stages = {{8, 256, 8, ScanRule::kLandmark, Reduction::kSoftmaxSum},
                   {4, 64, 1, ScanRule::kDescent, Reduction::kSoftmaxSum}};
  return config;
}

// Every key from the first stage on.
HipConfig every_key() {
  HipConfig config = small();
  config.stages = {{32, 256, 4, ScanRule::kEveryKey},
                   {4, 64, 1, ScanRule::kEveryKey, Reduction::kSoftmaxSum}};
  return config;
}

HipConfig with_sums(HipConfig config) {
  for (ScanStage& stage : config.stages) stage.reduction = Reduction::kSoftmaxSum;
  return config;
}

HipConfig classic() { return presets::hip_classic(kPresetKeys, 1024, 16); }

std::vector<NamedConfig> all_configs() {
  return {{"infinite_hip", presets::infinite_hip()},
          {"classic", classic()},
          {"sliding_window", presets::sliding_window(100, 8)},
          {"window_of_stages", window_of_stages()},
          {"dense", presets::dense()},
          {"small", small()},
          {"centre", centre()},
          {"smallest", smallest()},
          {"landmark", presets::landmark(kPresetKeys)},
          {"landmarks", landmarks()},
          {"landmark_descent", landmark_descent()},
          {"every_key", every_key()},
          {"small_sums", with_sums(small())},
          {"centre_sums", with_sums(centre())}};
}

std::vector<NamedConfig> long_configs() {
  return {{"infinite_hip", presets::infinite_hip()},
          {"classic", classic()},
          {"sliding_window", presets::sliding_window(1000, 64)},
          {"dense", presets::dense()},
          {"landmark", presets::landmark(kPresetKeys)},
          {"landmark_1k", presets::landmark_1k(kPresetKeys)},
          {"landmarks", landmarks()},
          {"infinite_hip_sums", presets::infinite_hip_softmax_sum()}};
}

// The cases of one operator.
class Cases {
 public:
  Cases(Operator op, std::vector<Request> mixed) : op_(op), mixed_(std::move(mixed)) {}

  Case& add(std::string name, HipConfig config, std::vector<Call> calls) {
    return cases_.emplace_back(Case{.name = std::move(name),
                                    .op = op_,
                                    .config = std::move(config),
                                    .calls = std::move(calls)});
  }
  Case& add_mixed(std::string name, HipConfig config) {
    return add(std::move(name), std::move(config), mixed_calls());
  }

  // Every kind of output, and the selection that was written given back in.
  [[nodiscard]] std::vector<Call> mixed_calls() const {
    return {{.name = "all", .requests = mixed_},
            {.name = "given", .requests = mixed_, .given = true},
            {.name = "no_selection", .requests = mixed_, .outputs = Outputs::kNoSelection},
            {.name = "out_alone", .requests = mixed_, .outputs = Outputs::kOutAlone}};
  }

  // What both operators have in common.
  void add_common() {
    for (const auto& [name, config] : all_configs())
      add_mixed(fmt::format("{}/mixed", name), config);
    add_mixed("many_chunks/mixed", many_chunks()).planned_seq_len = kManyKeys;
    for (const std::int64_t group : {1, 3, 4, 8, 16}) {
      for (const auto& [name, config] : {NamedConfig{"small", small()},
                                         {"dense", presets::dense()},
                                         {"landmarks", landmarks()}}) {
        Case& of_group = add_mixed(fmt::format("{}/group{}", name, group), config);
        of_group.num_q_heads = group * of_group.num_kv_heads;
      }
    }
    for (const std::int64_t page_size : {1, 16, 24, 64}) {
      for (const bool hnd : {false, true}) {
        for (const auto& [name, config] :
             {NamedConfig{"small", small()}, {"landmarks", landmarks()}}) {
          Case& paged =
              add_mixed(fmt::format("{}/{}{}", name, hnd ? "hnd" : "nhd", page_size), config);
          paged.page_size = page_size;
          paged.order = hnd ? PageOrder::kHnd : PageOrder::kNhd;
        }
      }
    }
    add_mixed("small/contiguous", small()).order = PageOrder::kContiguous;
    add_mixed("landmarks/contiguous", landmarks()).order = PageOrder::kContiguous;
    add_mixed("dense/contiguous", presets::dense()).order = PageOrder::kContiguous;
    for (const auto& [name, config] :
         {NamedConfig{"small", small()}, {"dense", presets::dense()}, {"landmarks", landmarks()}}) {
      for (const float scale : {0.3f, 0.f, -0.05f}) {
        add_mixed(fmt::format("{}/scale{}", name, scale), config).scale = scale;
      }
      add_mixed(fmt::format("{}/softcap", name), config).logit_softcap = 2.f;
      Case& both = add_mixed(fmt::format("{}/softcap_scale", name), config);
      both.logit_softcap = 20.f;
      both.scale = -1.f;
      add_mixed(fmt::format("{}/ties", name), config).contents = Contents::kTies;
      add_mixed(fmt::format("{}/infinite", name), config).contents = Contents::kInfinite;
    }
  }

  std::vector<Case> take() { return std::move(cases_); }

 private:
  Operator op_;
  std::vector<Request> mixed_;
  std::vector<Case> cases_;
};

// One request whole, then in pieces that end at `ends`.
std::vector<Call> pieces(const std::vector<std::int64_t>& ends) {
  std::vector<Call> calls{{.name = "whole", .requests = {{ends.back(), ends.back()}}}};
  std::int64_t first = 0;
  for (const std::int64_t end : ends) {
    calls.push_back({.name = fmt::format("rows{}-{}", first, end),
                     .requests = {{end, end - first}},
                     .first_row = first});
    first = end;
  }
  return calls;
}

std::vector<Case> prefill_cases(std::int64_t longest) {
  Cases cases(Operator::kPrefill, {{900, 200}, {0, 3}, {130, 130}, {50, 0}, {1, 1}, {301, 77}});
  cases.add_common();
  cases.add_mixed("many_rows/mixed", many_rows()).num_q_heads = 32;
  cases.add_mixed("small/dense_until160", small()).dense_until = 160;
  cases.add_mixed("infinite_hip/dense_until_planned", presets::infinite_hip()).dense_until.reset();
  cases.add_mixed("many_rows_sums/mixed", with_sums(many_rows())).num_q_heads = 32;
  for (const auto& [name, config] :
       {NamedConfig{"small", small()}, {"landmarks", landmarks()}, {"every_key", every_key()}}) {
    cases.add(fmt::format("{}/pieces", name), config, pieces({7, 50, 51, 304, 420}));
  }
  for (const auto& [name, config] : long_configs()) {
    cases.add(fmt::format("{}/long", name), config,
              pieces({longest / 4, longest / 2, longest / 2 + 64, longest}));
  }
  return cases.take();
}

// A search, then steps that run from each stage on, those that run the fewest first, while the
// requests grow; last a rollback, after which the entries lie ahead of the sequences.
std::vector<Call> cached_steps(const HipConfig& config, std::vector<Request> requests,
                               Outputs outputs) {
  const std::int32_t stages = config.num_stages();
  std::vector<Call> calls;
  const auto step = [&](std::string name, std::int32_t refresh_from, bool staggered) {
    Call call{.name = std::move(name), .requests = requests, .outputs = outputs};
    for (std::size_t b = 0; b < requests.size(); ++b) {
      call.refresh_from.push_back(
          staggered ? (refresh_from + static_cast<std::int32_t>(b)) % (stages + 1) : refresh_from);
    }
    calls.push_back(std::move(call));
    for (Request& request : requests) request.seq_len += request.seq_len > 0 ? 1 : 0;
  };
  step("search", 0, false);
  for (std::int32_t s = stages; s >= 0; --s) {
    step(fmt::format("from{}", s), s, false);
    step(fmt::format("from{}_staggered", s), s, true);
  }
  step("reuse", stages, false);
  for (Request& request : requests)
    request.seq_len = std::min(request.seq_len, request.seq_len / 2 + 8);
  step("rollback", stages, false);
  return calls;
}

void add_cached(Cases& cases, const std::string& name, const HipConfig& config,
                const std::vector<Request>& requests, std::int64_t group = 4) {
  for (const bool asks : {false, true}) {
    Case& cached =
        cases.add(fmt::format("{}/cached{}", name, asks ? "_selection" : ""), config,
                  cached_steps(config, requests, asks ? Outputs::kAll : Outputs::kNoSelection));
    cached.num_q_heads = group * cached.num_kv_heads;
  }
}

std::vector<Case> decode_cases(std::int64_t longest) {
  Cases cases(Operator::kDecode, {{3000, 1}, {0, 1}, {130, 4}, {50, 0}, {1, 1}, {1200, 3}});
  cases.add_common();
  for (const auto& [name, config] : all_configs()) {
    for (const std::int64_t rows : {1, 4}) {
      add_cached(cases, fmt::format("{}/rows{}", name, rows), config,
                 {{2000, rows}, {0, rows}, {290, rows}});
    }
  }
  for (const std::int64_t group : {1, 3, 8, 16}) {
    for (const auto& [name, config] : {NamedConfig{"small", small()}, {"landmarks", landmarks()}}) {
      add_cached(cases, fmt::format("{}/group{}", name, group), config, {{2000, 1}, {300, 1}},
                 group);
    }
  }
  std::vector<Request> many;
  for (std::int64_t b = 0; b < 40; ++b) many.push_back({b % 9 == 4 ? 0 : 37 * b + 5, 1});
  add_cached(cases, "small/many", small(), many);
  add_cached(cases, "landmarks/many", landmarks(), many);
  for (const auto& [name, config] : long_configs()) {
    for (const std::int64_t rows : {1, 4}) {
      cases.add(fmt::format("{}/long/rows{}", name, rows), config,
                {{.name = "all", .requests = {{longest, rows}}}});
    }
  }
  for (const auto& [name, config] : {NamedConfig{"infinite_hip", presets::infinite_hip()},
                                     {"landmark", presets::landmark(kPresetKeys)}}) {
    add_cached(cases, fmt::format("{}/long", name), config, {{longest - 100, 1}});
  }
  return cases.take();
}

}  // namespace

std::vector<Case> result_cases(const Longest& longest) {
  std::vector<Case> cases = prefill_cases(longest.prefill);
  std::vector<Case> decode = decode_cases(longest.decode);
  std::move(decode.begin(), decode.end(), std::back_inserter(cases));
  return cases;
}

}  // namespace hip_attn::bench
