// What the operators compute, as hashes of its bits: equal outputs of two builds on one machine
// show that their results are the same to the bit.
//
//   hip_attn_result_hashes --device cpu --filter prefill/small > before
//
// A line is one call: DEVICE/type/dHEAD_DIM/operator/config/case/call and the FNV-1a hashes of what
// it wrote, '-' for what it was not asked for. A case with landmarks has a line for these, which
// update_landmarks makes before the first call. Calls of a case follow one another on the same
// memory. On CUDA each case runs with the kernels that the plan chose and, as cuda_portable, with
// those for any GPU: prefill without those for Hopper, decode without clusters.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"
#include "result_cases.hpp"
#include "result_memory.hpp"

namespace {

using namespace hip_attn;
using namespace hip_attn::bench;

// For requests that take seconds.
constexpr Longest kLongestOnCpu{.prefill = 2048, .decode = 8192};
constexpr Longest kLongestOnCuda{.prefill = 16384, .decode = 65536};

// 64-bit FNV-1a of the bytes that are added.
class Hash {
 public:
  template <typename T>
  void add(const T* values, std::int64_t count) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values);
    const std::int64_t size = count * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < size; ++i) hash_ = (hash_ ^ bytes[i]) * 0x100000001b3u;
  }
  [[nodiscard]] std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

template <typename T>
std::string hash_of(const std::vector<T>& values) {
  Hash hash;
  hash.add(values.data(), std::ssize(values));
  return hash.text();
}

// A selection of a plan's largest call on one device.
class SelectionArrays {
 public:
  explicit SelectionArrays(const AttentionPlan& plan)
      : rows_(plan.selection_rows),
        kv_heads_(plan.shape.num_kv_heads),
        max_blocks_(plan.max_selected_blocks),
        blocks_(plan.shape.device, rows_ * kv_heads_ * max_blocks_, kUnwritten),
        counts_(plan.shape.device, rows_ * kv_heads_, kUnwritten),
        window_start_(plan.shape.device, rows_ * kv_heads_, kUnwritten) {}

  [[nodiscard]] BlockSelection view() const {
    return {TensorView<std::int32_t, 3>(blocks_.data(), {rows_, kv_heads_, max_blocks_}),
            TensorView<std::int32_t, 2>(counts_.data(), {rows_, kv_heads_}),
            TensorView<std::int32_t, 2>(window_start_.data(), {rows_, kv_heads_})};
  }
  void clear() {
    counts_.fill(kUnwritten);
    window_start_.fill(kUnwritten);
  }
  // Of the units that a call wrote and the blocks that they count.
  [[nodiscard]] std::string hash() const {
    const std::vector<std::int32_t> blocks = blocks_.read();
    const std::vector<std::int32_t> counts = counts_.read();
    Hash hash;
    hash.add(counts.data(), std::ssize(counts));
    const std::vector<std::int32_t> window_start = window_start_.read();
    hash.add(window_start.data(), std::ssize(window_start));
    for (std::int64_t unit = 0; unit < std::ssize(counts); ++unit) {
      const auto count = std::clamp<std::int64_t>(counts[unit], 0, max_blocks_);
      hash.add(blocks.data() + unit * max_blocks_, count);
    }
    return hash.text();
  }

 private:
  static constexpr int kUnwritten = 0xff;  // every byte: a count of -1

  std::int64_t rows_;
  std::int64_t kv_heads_;
  std::int64_t max_blocks_;
  DeviceArray<std::int32_t> blocks_;
  DeviceArray<std::int32_t> counts_;
  DeviceArray<std::int32_t> window_start_;
};

// A case for one element type, head dim and device.
template <Element T>
class CaseRun {
 public:
  CaseRun(Device device, std::int64_t head_dim, const Case& c)
      : case_(c),
        sizes_(c),
        status_(make_plan(device, head_dim)),
        kv_(device, head_dim, c, sizes_),
        landmarks_(device, head_dim, c, sizes_),
        q_(device, random_values<T>(sizes_.q_rows * c.num_q_heads * head_dim, 2)),
        out_(device, sizes_.total_q * c.num_q_heads * head_dim, 0),
        lse_(device, sizes_.total_q * c.num_q_heads, 0),
        seq_lens_(device, sizes_.batch(), 0),
        cu_seqlens_(device, sizes_.batch() + 1, 0),
        refresh_from_(device, sizes_.batch(), 0),
        slots_(device, shuffled_pages(sizes_.batch())),
        cache_(device, sizes_.batch() * static_cast<std::int64_t>(plan_.selection_cache_slot_bytes),
               0),
        counters_(device, c.config.num_stages() + 2, 0),
        selection_(plan_),
        workspace_(device, static_cast<std::int64_t>(plan_.workspace_bytes), 0xff) {
    if (status_.ok()) status_ = landmarks_.make(device, kv_.view(sizes_.batch()));
  }

  // Prints a line for every call; false when one fails.
  bool print(const std::string& device_name, bool portable) {
    AttentionPlan plan = plan_;
    if (portable) cuda::use_portable_kernels(plan);
    cache_.fill(0);
    if (case_.config.uses_landmarks()) {
      fmt::print("{}/landmarks rows={}\n", device_name, hash_of(landmarks_.read()));
    }
    for (const Call& call : case_.calls) {
      const std::string name = fmt::format("{}/{}", device_name, call.name);
      const Status status = status_.ok() ? run(plan, call) : status_;
      if (!status.ok()) {
        fmt::print("{} {}\n", name, to_string(status.code()));
        fmt::print(stderr, "{}: {}\n", name, status.message());
        return false;
      }
      fmt::print("{} {}\n", name, hashes(call));
    }
    return true;
  }

 private:
  Status make_plan(Device device, std::int64_t head_dim) {
    const AttentionShape shape{.device = device,
                               .batch = sizes_.batch(),
                               .total_q = sizes_.total_q,
                               .max_seq_len = std::max(sizes_.max_seq_len, case_.planned_seq_len),
                               .num_q_heads = case_.num_q_heads,
                               .num_kv_heads = case_.num_kv_heads,
                               .head_dim = head_dim};
    const Status status = case_.op == Operator::kPrefill
                              ? plan_prefill<T>(case_.config, shape, plan_)
                              : plan_decode<T>(case_.config, shape, plan_);
    plan_.dense_until = case_.dense_until.value_or(plan_.dense_until);
    return status;
  }

  static std::int64_t rows_of(const Call& call) {
    std::int64_t rows = 0;
    for (const Request& request : call.requests) rows += request.rows;
    return rows;
  }

  Status run(const AttentionPlan& plan, const Call& call) {
    std::vector<std::int32_t> seq_lens;
    std::vector<std::int32_t> cu_seqlens{0};
    for (const Request& request : call.requests) {
      seq_lens.push_back(static_cast<std::int32_t>(request.seq_len));
      cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(request.rows));
    }
    seq_lens_.write(seq_lens);
    cu_seqlens_.write(cu_seqlens);
    refresh_from_.write(call.refresh_from);
    out_.fill(0xff);
    lse_.fill(0xff);
    counters_.fill(0);
    if (!call.given) selection_.clear();

    const std::int64_t batch = std::ssize(call.requests);
    const std::int64_t rows = rows_of(call);
    const std::int64_t q_heads = plan.shape.num_q_heads;
    const std::int64_t head_dim = plan.shape.head_dim;
    AttentionArgs<T> args;
    args.q = {q_.data() + call.first_row * q_heads * head_dim, {rows, q_heads, head_dim}};
    args.kv = kv_.view(batch);
    args.landmarks = landmarks_.view(batch);
    args.seq_lens = {seq_lens_.data(), {batch}};
    args.cu_seqlens_q = {cu_seqlens_.data(), {batch + 1}};
    args.out = {out_.data(), {rows, q_heads, head_dim}};
    args.scale = case_.scale;
    args.logit_softcap = case_.logit_softcap;
    if (asks_for_numbers(call)) {
      args.lse = TensorView<float, 2>(lse_.data(), {rows, q_heads});
      args.counters = TensorView<std::int64_t, 1>(counters_.data(), {plan.config.num_stages() + 2});
    }
    if (asks_for_selection(call)) args.selection_out = selection_.view();
    if (call.given) args.selection = selection_.view();
    if (!call.refresh_from.empty()) {
      args.cache = SelectionCache{cache_.data(),
                                  batch,
                                  {refresh_from_.data(), {batch}},
                                  TensorView<const std::int32_t, 1>(slots_.data(), {batch})};
    }
    const Workspace workspace{workspace_.data(), plan.workspace_bytes};
    return case_.op == Operator::kPrefill ? run_prefill<T>(plan, args, workspace)
                                          : run_decode<T>(plan, args, workspace);
  }

  [[nodiscard]] std::string hashes(const Call& call) const {
    const std::int64_t heads = rows_of(call) * case_.num_q_heads;
    const bool numbers = asks_for_numbers(call);
    return fmt::format("out={} lse={} selection={} cache={} counters={}",
                       hash_of(out_.read(heads * plan_.shape.head_dim)),
                       numbers ? hash_of(lse_.read(heads)) : "-",
                       asks_for_selection(call) ? selection_.hash() : "-",
                       call.refresh_from.empty() ? "-" : hash_of(cache_.read()),
                       numbers ? hash_of(counters_.read()) : "-");
  }

  static bool asks_for_numbers(const Call& call) { return call.outputs != Outputs::kOutAlone; }
  static bool asks_for_selection(const Call& call) {
    return call.outputs == Outputs::kAll && !call.given;
  }

  const Case& case_;
  CaseSizes sizes_;
  AttentionPlan plan_;
  Status status_;
  KvCache<T> kv_;
  CaseLandmarks<T> landmarks_;
  DeviceArray<T> q_;
  DeviceArray<T> out_;
  DeviceArray<float> lse_;
  DeviceArray<std::int32_t> seq_lens_;
  DeviceArray<std::int32_t> cu_seqlens_;
  DeviceArray<std::int32_t> refresh_from_;
  DeviceArray<std::int32_t> slots_;
  DeviceArray<std::byte> cache_;
  DeviceArray<std::int64_t> counters_;
  SelectionArrays selection_;
  DeviceArray<std::byte> workspace_;
};

template <Element T>
bool print_type(Device device, const char* type, const std::string& filter) {
  const auto built = built_element_types();
  if (std::find(built.begin(), built.end(), kElementType<T>) == built.end()) return true;
  const bool cuda = device.type == DeviceType::kCuda;
  const std::vector<Case> cases = result_cases(cuda ? kLongestOnCuda : kLongestOnCpu);
  bool ok = true;
  for (const std::int64_t head_dim : built_head_dims()) {
    for (const Case& c : cases) {
      std::optional<CaseRun<T>> run;
      for (const bool portable : {false, true}) {
        if (portable && !cuda) continue;
        const std::string name =
            fmt::format("{}/{}/d{}/{}/{}",
                        portable ? "cuda_portable"
                        : cuda   ? "cuda"
                                 : "cpu",
                        type, head_dim, c.op == Operator::kPrefill ? "prefill" : "decode", c.name);
        if (name.find(filter) == std::string::npos) continue;
        if (!run) run.emplace(device, head_dim, c);
        ok = run->print(name, portable) && ok;
      }
    }
  }
  return ok;
}

bool print_device(Device device, const std::string& filter) {
  bool ok = true;
  // CUDA attends to 16-bit types alone.
  if (device == kCpu) ok = print_type<float>(device, "float", filter);
  ok = print_type<float16>(device, "float16", filter) && ok;
  return print_type<bfloat16>(device, "bfloat16", filter) && ok;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string device = "all";
  std::string filter;
  CLI::App app("Prints hashes of what hip_attn computes, a line for each call.");
  app.add_option("--device", device, "cpu, cuda, or all: the CPU, and a GPU if there is one")
      ->check(CLI::IsMember({"cpu", "cuda", "all"}))
      ->capture_default_str();
  app.add_option("--filter", filter,
                 "Only cases whose name, without that of the call, contains it");
  CLI11_PARSE(app, argc, argv);

  bool ok = true;
  if (device != "cuda") ok = print_device(kCpu, filter);
  const Status cuda = check_device(cuda_device());
  if (cuda.ok() && device != "cpu") return print_device(cuda_device(), filter) && ok ? 0 : 1;
  if (device == "cuda") {
    fmt::print(stderr, "--device cuda: {}\n", cuda.message());
    return 1;
  }
  return ok ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
