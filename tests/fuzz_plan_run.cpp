// Calls plan and run with random configurations, shapes, memory layouts and device arrays, good
// ones and hostile ones, for a bounded time. Nothing but a Status may come back: memory around
// every buffer stays as it was, a call that succeeds has written every row, and one that must fail
// fails. Built with sanitizers, it also finds every access that is out of bounds.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "hip_attn/hip_attn.hpp"
#include "support/call.hpp"
#include "support/configs.hpp"
#include "support/problem.hpp"
#include "support/values.hpp"

namespace hip_attn::test {
namespace {

// What the call in hand is, for the report of a violation.
struct Trial {
  std::uint64_t seed = 0;
  std::string text;
};

[[noreturn]] void fail(const Trial& trial, const std::string& violation) {
  std::fprintf(stderr, "violation: %s\n  in the trial of seed %llu: %s\n", violation.c_str(),
               static_cast<unsigned long long>(trial.seed), trial.text.c_str());
  std::exit(1);
}

// Any 64-bit number, with those at which arithmetic breaks more often than the rest.
std::int64_t hostile_int64(Choices& choices) {
  const std::int64_t edge =
      choices.of({std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 31, std::int64_t{1} << 32,
                  std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::max(),
                  std::numeric_limits<std::int64_t>::max() / 2});
  const std::int64_t value = edge - choices.between(0, 2);
  switch (choices.between(0, 3)) {
    case 0:
      return static_cast<std::int64_t>(choices.bits());
    case 1:
      return -value;
    default:
      return value;
  }
}

std::int32_t hostile_int32(Choices& choices) {
  switch (choices.between(0, 3)) {
    case 0:
      return static_cast<std::int32_t>(choices.bits());
    case 1:
      return std::numeric_limits<std::int32_t>::min() +
             static_cast<std::int32_t>(choices.between(0, 2));
    case 2:
      return std::numeric_limits<std::int32_t>::max() -
             static_cast<std::int32_t>(choices.between(0, 2));
    default:
      return static_cast<std::int32_t>(choices.between(-40, 200));
  }
}

// A number near `value`, or anything.
std::int32_t changed_int32(Choices& choices, std::int32_t value, std::int64_t distance) {
  if (choices.one_in(2)) return hostile_int32(choices);
  return static_cast<std::int32_t>(value + choices.between(-distance, distance));
}

HipConfig hostile_config(Choices& choices) {
  HipConfig config = random_config(choices, 6);
  for (std::int64_t changes = choices.between(1, 3); changes > 0; --changes) {
    ScanStage* stage = config.stages.empty()
                           ? nullptr
                           : &config.stages[choices.between(0, config.num_stages() - 1)];
    const std::int64_t field = choices.between(stage ? 0 : 5, 11);
    if (field == 0) stage->chunk_size = hostile_int32(choices);
    if (field == 1) stage->keep = hostile_int64(choices);
    if (field == 2) stage->query_stride = hostile_int32(choices);
    if (field == 3) stage->rule = static_cast<ScanRule>(hostile_int32(choices));
    if (field == 4) stage->reduction = static_cast<Reduction>(hostile_int32(choices));
    if (field == 5) config.sink = hostile_int64(choices);
    if (field == 6) config.window = hostile_int64(choices);
    if (field == 7) config.block_q = hostile_int32(choices);
    if (field == 8) config.max_first_chunks = hostile_int64(choices);
    if (field == 9) config.refresh_interval.push_back(hostile_int32(choices));
    if (field == 10)
      config = presets::hip_classic(hostile_int64(choices), hostile_int64(choices),
                                    hostile_int32(choices));
    if (field == 11) config = presets::landmark(hostile_int64(choices));
  }
  return config;
}

AttentionShape hostile_shape(Choices& choices, AttentionShape shape) {
  std::int64_t* fields[] = {&shape.batch,       &shape.total_q,      &shape.max_seq_len,
                            &shape.num_q_heads, &shape.num_kv_heads, &shape.head_dim};
  for (std::int64_t changes = choices.between(1, 2); changes > 0; --changes) {
    *choices.of(fields) = hostile_int64(choices);
  }
  if (choices.one_in(8)) shape.device = {static_cast<DeviceType>(choices.between(1, 3)), 99};
  return shape;
}

template <TestedTypes P>
Problem<P> random_problem(Choices& choices, Operator op) {
  const std::int64_t kv_heads = choices.between(1, 3);
  const auto dims = built_head_dims();
  const Heads heads{kv_heads * choices.between(1, 5), kv_heads,
                    dims[choices.between(0, static_cast<std::int64_t>(dims.size()) - 1)]};
  std::vector<RequestSpec> specs;
  for (std::int64_t b = choices.between(0, 3); b > 0; --b) {
    const std::int64_t seq_len = choices.between(0, choices.of({3, 60, 250}));
    const std::int64_t most = op == Operator::kDecode ? kMaxDecodeRows : 40;
    specs.push_back({seq_len, choices.between(0, seq_len == 0 ? most : std::min(seq_len, most)),
                     choices.bits()});
  }
  return make_problem<P>(heads, specs);
}

MemoryLayout random_layout(Choices& choices) {
  MemoryLayout layout;
  layout.order = choices.of({KvOrder::kNhd, KvOrder::kHnd, KvOrder::kContiguous});
  layout.page_size = choices.of({1, 2, 3, 16, 100});
  layout.page_seed = choices.bits();
  layout.row_padding = choices.of({0, 8, 24});
  layout.interleave_kv = choices.one_in(3);
  layout.other_order_of_v = choices.one_in(3);
  return layout;
}

// A pointer that is null or off by a few bytes, or a bad stride or size. What the library has to
// believe, such as sizes that the memory does not have, stays true.
template <typename View>
void spoil_view(Choices& choices, View& view) {
  const auto rank = static_cast<std::int64_t>(view.strides.size());
  const std::int64_t dimension = choices.between(0, rank - 1);
  switch (choices.between(0, 5)) {
    case 0:
      view.data = nullptr;
      return;
    case 1:
      view.data = reinterpret_cast<decltype(view.data)>(
          reinterpret_cast<std::uintptr_t>(view.data) + choices.between(1, 3));
      return;
    case 2:
      view.strides[rank - 1] = choices.of({std::int64_t{0}, std::int64_t{-1}, std::int64_t{2}});
      return;
    case 3:
      view.strides[dimension] = -choices.between(1, std::int64_t{1} << 40);
      return;
    case 4:
      view.sizes[dimension] = -choices.between(1, std::int64_t{1} << 40);
      return;
    default:
      view.sizes[dimension] = choices.between(0, view.sizes[dimension]);
  }
}

/// Changes of the arrays that a call reads: what is there may be anything.
template <TestedTypes P>
class Attack {
 public:
  Attack(Choices& choices, const AttentionPlan& plan, ArgumentsOf<P>& args)
      : choices_(choices), plan_(plan), args_(args), batch_(args.seq_lens.sizes[0]) {}

  void spoil_arguments() {
    switch (choices_.between(0, 11)) {
      case 0:
        return spoil_view(choices_, args_.q);
      case 1:
        return spoil_view(choices_, args_.out);
      case 2:
        return spoil_view(choices_, args_.kv.pages.k);
      case 3:
        return spoil_view(choices_, args_.kv.pages.v);
      case 4:
        return spoil_view(choices_, args_.seq_lens);
      case 5:
        return spoil_view(choices_, args_.cu_seqlens_q);
      case 6:
        if (args_.kv.block_table) spoil_view(choices_, *args_.kv.block_table);
        return;
      case 7:
        return spoil_view(choices_, *args_.lse);
      case 8:
        return spoil_view(choices_, *args_.counters);
      case 9:
        return spoil_view(choices_, args_.selection_out->blocks);
      case 10:
        args_.logit_softcap = choices_.of({0.f, -1.f, kNaN, kInfinity, 1e-30f});
        return;
      default:
        args_.scale = choices_.of({kNaN, kInfinity, 0.f, 1e38f});
    }
  }

  void spoil_lengths() {
    if (choices_.one_in(2)) {
      args_.seq_lens = changed(args_.seq_lens);
    } else {
      args_.cu_seqlens_q = changed(args_.cu_seqlens_q);
    }
  }

  void spoil_block_table() {
    if (!args_.kv.block_table) return;
    const auto table = *args_.kv.block_table;
    // To the last column of the last row, whatever the row stride.
    const std::int64_t size =
        table.sizes[0] == 0 ? 0 : (table.sizes[0] - 1) * table.strides[0] + table.sizes[1];
    args_.kv.block_table->data = changed({table.data, {size}}).data;
  }

  /// Views of landmarks, or entries of a table.
  void spoil_landmarks() {
    if (!args_.landmarks) return;
    auto& landmarks = *args_.landmarks;
    auto& level = landmarks.levels[choices_.between(0, landmarks.num_levels - 1)];
    switch (choices_.between(0, 5)) {
      case 0:
        args_.landmarks.reset();
        return;
      case 1:
        return spoil_view(choices_, level.rows);
      case 2:
        level.chunk_size = hostile_int64(choices_);
        return;
      case 3:
        landmarks.num_levels = static_cast<int>(choices_.between(-2, landmarks.num_levels));
        return;
      case 4:
        landmarks.spread = choices_.of({-0.5f, 0.f, 1.f, 1.5f, kNaN, kInfinity});
        return;
      default: {
        const auto table = *level.block_table;
        level.block_table->data = changed({table.data, {table.sizes[0] * table.sizes[1]}}).data;
      }
    }
  }

  /// A selection of any numbers, or a searched one of which a few are changed.
  void give_selection(const HostSelection* searched) {
    HostSelection selection =
        searched ? *searched
                 : HostSelection(plan_.selection_rows, plan_.shape.num_kv_heads,
                                 choices_.between(0, plan_.max_selected_blocks + 3));
    if (!searched) {
      for (auto* values : {&selection.blocks, &selection.counts, &selection.window_start}) {
        for (std::int32_t& value : *values) value = hostile_int32(choices_);
      }
    }
    for (auto* values : {&selection.blocks, &selection.counts, &selection.window_start}) {
      if (values->empty()) continue;
      for (std::int64_t n = choices_.between(0, 2); n > 0; --n) {
        std::int32_t& value =
            (*values)[choices_.between(0, static_cast<std::int64_t>(values->size()) - 1)];
        value = changed_int32(choices_, value, 2);
      }
    }
    args_.selection = selection_.emplace(kCpu, selection).view();
    // What is given is copied out whole.
    if (args_.selection_out->blocks.sizes[2] < selection.max_blocks) args_.selection_out.reset();
  }

  /// A cache of zeros, or of any bytes.
  void give_cache() {
    const std::int64_t num_slots = batch_ + choices_.between(0, 2);
    const auto slot_bytes = static_cast<std::int64_t>(plan_.selection_cache_slot_bytes);
    std::vector<std::byte> bytes(num_slots * slot_bytes, std::byte{0});
    if (choices_.one_in(2)) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(choices_.bits());
    }
    cache_.emplace(kCpu, bytes);
    std::vector<std::int32_t> slots(batch_);
    for (std::int64_t b = 0; b < batch_; ++b) slots[b] = static_cast<std::int32_t>(b);
    args_.cache = SelectionCache{cache_->data(), num_slots, refresh_from(), std::nullopt};
    if (choices_.one_in(2)) {
      args_.cache->slots = keep(slots);
      if (choices_.one_in(3)) args_.cache->slots = changed(*args_.cache->slots);
    }
  }

  /// Changes words of the cache that the last call left, which were good.
  void spoil_cache() {
    std::vector<std::byte> bytes = cache_->read();
    const std::int64_t words = static_cast<std::int64_t>(bytes.size() / 4);
    for (std::int64_t n = words == 0 ? 0 : choices_.between(0, 4); n > 0; --n) {
      // The numbers of a cache are small: so are most that replace them.
      const std::int32_t value = choices_.one_in(3)
                                     ? hostile_int32(choices_)
                                     : static_cast<std::int32_t>(choices_.between(0, 64));
      std::memcpy(bytes.data() + 4 * choices_.between(0, words - 1), &value, 4);
    }
    cache_->write(bytes);
    args_.cache->refresh_from = refresh_from();
  }

  [[nodiscard]] bool guards_intact() const {
    return std::all_of(arrays_.begin(), arrays_.end(),
                       [](const auto& array) { return array.guards_intact(); }) &&
           (!cache_ || cache_->guards_intact()) && (!selection_ || selection_->guards_intact());
  }

 private:
  TensorView<const std::int32_t, 1> changed(TensorView<const std::int32_t, 1> array) {
    std::vector<std::int32_t> values(array.data, array.data + array.sizes[0]);
    for (std::int64_t n = values.empty() ? 0 : choices_.between(1, 2); n > 0; --n) {
      std::int32_t& value = values[choices_.between(0, array.sizes[0] - 1)];
      value = changed_int32(choices_, value, 9);
    }
    return keep(values);
  }

  TensorView<const std::int32_t, 1> refresh_from() {
    std::vector<std::int32_t> stages(batch_);
    for (std::int32_t& stage : stages) {
      stage = choices_.one_in(4) ? hostile_int32(choices_)
                                 : static_cast<std::int32_t>(choices_.between(-4, 5));
    }
    return keep(stages);
  }

  TensorView<const std::int32_t, 1> keep(const std::vector<std::int32_t>& values) {
    const auto& buffer = arrays_.emplace_back(kCpu, values);
    return {buffer.data(), {buffer.size()}};
  }

  Choices& choices_;
  const AttentionPlan& plan_;
  ArgumentsOf<P>& args_;
  std::int64_t batch_;  // before anything is spoilt
  std::deque<DeviceBuffer<std::int32_t>> arrays_;
  std::optional<SelectionMemory> selection_;
  std::optional<DeviceBuffer<std::byte>> cache_;
};

class Fuzzer {
 public:
  void run_trial(std::uint64_t seed) {
    Choices choices(seed);
    trial_.seed = seed;
    switch (choices.between(0, 4)) {
      case 0:
        return run_typed<float>(choices);
      case 1:
        return run_typed<float16>(choices);
      case 2:
        return run_typed<TypePair<float, float16>>(choices);
      case 3:
        return run_typed<TypePair<float, bfloat16>>(choices);
      default:
        return run_typed<bfloat16>(choices);
    }
  }

  void print() const {
    std::int64_t trials = 0;
    for (const auto& [code, count] : codes_) trials += count;
    std::printf("%lld calls\n", static_cast<long long>(trials));
    for (const auto& [code, count] : codes_) {
      std::printf("  %-24s %lld\n", to_string(code), static_cast<long long>(count));
    }
  }

 private:
  // Every Status comes by here.
  bool note(const Status& status) {
    ++codes_[status.code()];
    if (status.ok() != status.message().empty())
      fail(trial_, "a message without an error, or the reverse");
    trial_.text += " -> " + std::string(to_string(status.code()));
    return status.ok();
  }

  template <TestedTypes P>
  Status make_plan(Operator op, const HipConfig& config, const AttentionShape& shape,
                   AttentionPlan& plan) {
    return op == Operator::kPrefill ? plan_prefill<QueryType<P>, CacheType<P>>(config, shape, plan)
                                    : plan_decode<QueryType<P>, CacheType<P>>(config, shape, plan);
  }

  template <TestedTypes P>
  void run_typed(Choices& choices) {
    const Operator op = choices.of({Operator::kPrefill, Operator::kDecode});
    const bool hostile_plan = choices.one_in(3);
    const HipConfig config =
        hostile_plan && choices.one_in(2) ? hostile_config(choices) : random_config(choices, 4);
    trial_.text = op == Operator::kPrefill ? "prefill, " : "decode, ";
    trial_.text += describe(config);
    static_cast<void>(refresh_from_at(config, hostile_int64(choices)));

    const Problem<P> problem = random_problem<P>(choices, op);
    AttentionShape shape = problem.shape(kCpu);
    if (hostile_plan && choices.one_in(2)) shape = hostile_shape(choices, shape);
    AttentionPlan plan;
    if (!note(make_plan<P>(op, config, shape, plan))) return;
    // A plan for more than this machine has is good, but cannot be run here.
    const double selection_elements = static_cast<double>(plan.selection_rows) *
                                      static_cast<double>(plan.shape.num_kv_heads) *
                                      static_cast<double>(plan.max_selected_blocks);
    if (plan.workspace_bytes > kMostBytes || plan.selection_cache_slot_bytes > kMostBytes ||
        selection_elements > kMostBytes / 16) {
      return;
    }
    run_calls(choices, plan, problem);
  }

  template <TestedTypes P>
  void run_calls(Choices& choices, AttentionPlan plan, const Problem<P>& problem) {
    CallMemory<P> memory(plan, problem, random_layout(choices));
    ArgumentsOf<P>& args = memory.args();
    Workspace workspace = memory.workspace();
    Attack<P> attack(choices, plan, args);
    const auto run = [&] {
      const bool ok = note(run_operator<P>(plan, args, workspace));
      if (!memory.untouched_around_outputs() || !attack.guards_intact()) {
        fail(trial_, "memory around a buffer was written");
      }
      return ok;
    };
    const bool fits = plan.shape.batch >= problem.batch() &&
                      plan.shape.total_q >= problem.total_q() &&
                      plan.shape.max_seq_len >= problem.max_seq_len() &&
                      plan.shape.num_q_heads == problem.heads.num_q_heads &&
                      plan.shape.num_kv_heads == problem.heads.num_kv_heads &&
                      plan.shape.head_dim == problem.heads.head_dim;
    const bool with_cache = plan.op == Operator::kDecode && choices.one_in(3);
    switch (choices.between(0, 7)) {
      case 0:
        attack.spoil_arguments();
        trial_.text += ", arguments";
        break;
      case 1:
        attack.spoil_lengths();
        trial_.text += ", lengths";
        break;
      case 2:
        attack.spoil_block_table();
        trial_.text += ", block table";
        break;
      case 3: {
        const bool searched = choices.one_in(2) && run();
        const RunResult<P> result = memory.read();
        attack.give_selection(searched ? &result.selection : nullptr);
        trial_.text += ", selection";
        break;
      }
      case 4:
        plan.num_threads = static_cast<int>(choices.between(-2, 1));
        if (choices.one_in(2)) {
          workspace =
              workspace.first(choices.between(0, static_cast<std::int64_t>(workspace.size())));
        }
        trial_.text += ", workspace";
        break;
      case 5:
        attack.spoil_landmarks();
        trial_.text += ", landmarks";
        break;
      default: {  // nothing is spoilt
        const bool ok = run();
        if (ok != fits)
          fail(trial_, "a good call failed, or one that does not fit its plan did not");
        if (ok) check_written(memory.read());
      }
    }
    if (with_cache) {
      trial_.text += ", cache";
      attack.give_cache();
      if (run() && choices.one_in(2)) attack.spoil_cache();
    }
    run();
  }

  template <TestedTypes P>
  void check_written(const RunResult<P>& result) const {
    for (const QueryType<P> value : result.out) {
      if (std::isnan(to_float(value))) fail(trial_, "a row of out was not written");
    }
    for (const float value : result.lse) {
      if (std::isnan(value)) fail(trial_, "a row of lse was not written");
    }
  }

  static constexpr std::size_t kMostBytes = std::size_t{8} << 20;

  Trial trial_;
  std::map<StatusCode, std::int64_t> codes_;
};

}  // namespace
}  // namespace hip_attn::test

int main(int argc, char** argv) {
  double seconds = 10;
  std::uint64_t seed = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (i + 1 < argc && option == "--seconds") {
      seconds = std::strtod(argv[++i], nullptr);
    } else if (i + 1 < argc && option == "--seed") {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fprintf(stderr,
                   "usage: %s [--seconds N] [--seed S]\n"
                   "Trial n has seed S + n; a violation names its own.\n",
                   argv[0]);
      return 2;
    }
  }
  hip_attn::test::Fuzzer fuzzer;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  do {
    fuzzer.run_trial(seed++);
  } while (std::chrono::steady_clock::now() < end);
  fuzzer.print();
  return 0;
}
