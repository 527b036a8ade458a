/// An engine with one layer, whose cache lies on the device or, with a store, in host memory: the
/// same steps of both are compared bit for bit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "device_buffer.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/hip_attn.hpp"
#include "same_bits.hpp"
#include "through_c.hpp"
#include "values.hpp"

namespace hip_attn::test {

struct StoreEngineOptions {
  Device device = kCpu;
  HipConfig config;
  std::int64_t batch = 2;
  std::int64_t max_len = 4096;  ///< of a request, a multiple of 64
  std::int64_t q_heads = 8;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 128;
  std::optional<std::size_t> budget = {};  ///< of a store; absent: the cache is on the device
  std::optional<std::int64_t> max_requests = {};
  bool hopper = true;             ///< false: prefill by the kernels that every CUDA device has
  int multiprocessors = 0;        ///< prefill as on a GPU with so many; 0: as on this one
  bool is_prefill = false;        ///< calls are of prefill, without a cache of selections
  bool admits_apart = false;      ///< by admit_kv_store behind every decode, not by append_kv
  std::size_t staging_bytes = 0;  ///< of prefill with a store
  bool through_c = false;         ///< all calls by the C interface, on no stream
};

template <Element T>
class StoreEngine {
 public:
  /// Of a request that stands in the batch: its row of the store, and what its values follow from.
  struct Member {
    std::int64_t row;
    std::uint64_t seed;
    std::int64_t len = 0;
  };
  struct Result {
    std::vector<T> out;
    std::vector<float> lse;
  };

  explicit StoreEngine(StoreEngineOptions options)
      : options_(std::move(options)),
        columns_(options_.max_len / kKvBlockTokens),
        num_blocks_(2 * options_.batch * columns_ + 7),
        table_(options_.device, options_.batch * columns_, std::int32_t{0}),
        rows_(options_.device, options_.batch, std::int32_t{0}),
        lengths_(options_.device, options_.batch, std::int32_t{0}),
        cu_(options_.device, options_.batch + 1, std::int32_t{0}),
        refresh_(options_.device, options_.batch, std::int32_t{0}),
        landmarks_(
            options_.device,
            options_.batch * options_.max_len / 64 * options_.kv_heads * 2 * options_.head_dim,
            from_float<T>(kNaN)),
        new_k_(options_.device,
               options_.batch * options_.max_len * options_.kv_heads * options_.head_dim, T{}),
        new_v_(options_.device, new_k_.size(), T{}),
        new_slots_(options_.device, options_.batch * options_.max_len, std::int64_t{0}),
        q_(options_.device, most_rows() * options_.q_heads * options_.head_dim, T{}),
        out_(options_.device, q_.size(), T{}),
        lse_(options_.device, most_rows() * options_.q_heads, 0.f) {
    AttentionShape shape{options_.device,  options_.batch,    most_rows(),      options_.max_len,
                         options_.q_heads, options_.kv_heads, options_.head_dim};
    shape.staging_bytes = options_.staging_bytes;
    require(options_.is_prefill ? plan_prefill<T>(options_.config, shape, plan_)
                                : plan_decode<T>(options_.config, shape, plan_));
    plan_.dense_until = 0;
    if (!options_.hopper) cuda::use_portable_kernels(plan_);
    if (options_.multiprocessors > 0) use_multiprocessors(options_.multiprocessors);
    workspace_.emplace(options_.device, static_cast<std::int64_t>(plan_.workspace_bytes),
                       std::byte{0});
    cache_.emplace(
        options_.device,
        options_.batch * static_cast<std::int64_t>(plan_.selection_cache_slot_bytes) + 16,
        std::byte{0});
    const std::int64_t elements =
        num_blocks_ * options_.kv_heads * 2 * kKvBlockTokens * options_.head_dim;
    const std::vector<T> poison(static_cast<std::size_t>(elements), from_float<T>(kNaN));
    if (options_.budget) {
      const KvStoreShape store_shape{
          options_.device,  kElementType<T>,   options_.max_requests.value_or(options_.batch),
          options_.max_len, options_.kv_heads, options_.head_dim};
      require(
          options_.through_c
              ? plan_kv_store_through_c(options_.config, store_shape, *options_.budget, store_plan_)
              : plan_kv_store(options_.config, store_shape, *options_.budget, store_plan_));
      require(HostMemory::allocate(options_.device, poison.size() * sizeof(T), home_));
      std::memcpy(home_.data(), poison.data(), home_.size());
      store_memory_.emplace(options_.device, static_cast<std::int64_t>(store_plan_.memory_bytes),
                            std::byte{0x7f});
      require(options_.through_c ? clear_kv_store_through_c(store()) : clear_kv_store(store()));
    } else {
      resident_.emplace(options_.device, poison);
    }
    // Blocks in no order, shared by nobody.
    for (std::int64_t i = 0; i < options_.batch * columns_; ++i) {
      host_table_.push_back(static_cast<std::int32_t>(i * 7919 % (options_.batch * columns_) + 3));
    }
    for (std::int64_t b = 0; b < options_.batch; ++b) {
      members_.push_back({options_.batch - 1 - b, static_cast<std::uint64_t>(b + 1)});
    }
  }

  [[nodiscard]] Member& member(std::int64_t b) { return members_[b]; }
  [[nodiscard]] std::int32_t& block(std::int64_t b, std::int64_t column) {
    return host_table_[b * columns_ + column];
  }
  /// Gives request b blocks that nobody has had.
  void take_fresh_blocks(std::int64_t b) {
    for (std::int64_t c = 0; c < columns_; ++c) {
      block(b, c) = static_cast<std::int32_t>(options_.batch * columns_ + 5 + b * columns_ + c);
    }
  }
  /// Request `to` has the landmarks of request `from` as well.
  void share_landmarks(std::int64_t from, std::int64_t to) {
    std::vector<T> all = landmarks_.read();
    const std::int64_t request = options_.max_len / 64 * 2 * options_.head_dim;
    for (std::int64_t head = 0; head < options_.kv_heads; ++head) {
      const auto begin = all.begin() + head * options_.batch * request;
      std::copy_n(begin + from * request, request, begin + to * request);
    }
    landmarks_.write(all);
  }
  [[nodiscard]] const KvStorePlan& store_plan() const { return store_plan_; }
  [[nodiscard]] const AttentionPlan& plan() const { return plan_; }
  [[nodiscard]] KvStore store() const {
    return {&store_plan_, store_memory_ ? store_memory_->data() : nullptr,
            TensorView<const std::int32_t, 1>(rows_.data(), {options_.batch})};
  }
  [[nodiscard]] KvStoreCounters counters() const {
    KvStoreCounters counters;
    require(options_.through_c ? read_kv_store_counters_through_c(store(), counters)
                               : read_kv_store_counters(store(), counters));
    return counters;
  }

  /// Makes all that lies at home NaN. Returns what was there.
  [[nodiscard]] std::vector<std::byte> poison_home() {
    std::vector<std::byte> before(home_.data(), home_.data() + home_.size());
    std::memset(home_.data(), 0xff, home_.size());
    return before;
  }
  void restore_home(const std::vector<std::byte>& contents) {
    std::memcpy(home_.data(), contents.data(), contents.size());
  }

  /// Requests that begin, with as many keys as they have.
  void bind() {
    if (!options_.budget) return;
    write_batch({});
    const BindKvStoreArgs args{store(), num_blocks_, table(), lengths()};
    require(options_.through_c ? bind_kv_store_through_c(args) : bind_kv_store(args));
  }

  /// Appends added[b] tokens to request b, which begin at its length.
  void append(const std::vector<std::int64_t>& added) {
    const std::int64_t tokens = write_new_rows(added);
    launch_append(tokens, nullptr);
    static_cast<void>(lengths_.read());  // what was launched reads the rows
  }

  /// Attention of the last rows[b] tokens of each request; what they ask for follows from `step`.
  Result attend(const std::vector<std::int64_t>& rows,
                const std::vector<std::int32_t>& refresh_from, std::uint64_t step) {
    const std::int64_t total = write_queries(rows, refresh_from, step);
    launch_attend(total, nullptr);
    if (options_.budget && options_.admits_apart) launch_admission(nullptr);
    return read_result(total);
  }

  // ---- The same in parts, for whoever launches on streams or in graphs --------------------------

  /// Writes what append(added) copies; returns the tokens.
  std::int64_t write_new_rows(const std::vector<std::int64_t>& added) {
    std::vector<T> k;
    std::vector<T> v;
    std::vector<std::int64_t> slots;
    for (std::int64_t b = 0; b < options_.batch; ++b) {
      for (std::int64_t i = 0; i < added[b]; ++i) {
        const std::int64_t position = members_[b].len++;
        slots.push_back(std::int64_t{block(b, position / kKvBlockTokens)} * kKvBlockTokens +
                        position % kKvBlockTokens);
        const std::uint64_t of_token = mix(members_[b].seed, static_cast<std::uint64_t>(position));
        for (std::int64_t e = 0; e < options_.kv_heads * options_.head_dim; ++e) {
          k.push_back(from_float<T>(gaussian(mix(of_token, 2 * e))));
          v.push_back(from_float<T>(gaussian(mix(of_token, 2 * e + 1))));
        }
      }
    }
    write_batch(added);
    new_k_.write(k);
    new_v_.write(v);
    new_slots_.write(slots);
    return static_cast<std::int64_t>(slots.size());
  }

  /// Writes what attend(rows, refresh_from, step) reads; returns the rows.
  std::int64_t write_queries(const std::vector<std::int64_t>& rows,
                             const std::vector<std::int32_t>& refresh_from, std::uint64_t step) {
    std::vector<T> q;
    std::int64_t total = 0;
    for (std::int64_t b = 0; b < options_.batch; ++b) {
      for (std::int64_t e = 0; e < rows[b] * options_.q_heads * options_.head_dim; ++e) {
        // Queries that drift: mostly those of ten steps ago.
        const std::uint64_t element = static_cast<std::uint64_t>(e) + 1000000u * members_[b].seed;
        q.push_back(from_float<T>(gaussian(mix(step / 10, element)) +
                                  0.5f * gaussian(mix(1000 + step, element))));
      }
      total += rows[b];
    }
    write_batch(rows);
    refresh_.write(refresh_from);
    q_.write(q);
    out_.write(std::vector<T>(static_cast<std::size_t>(out_.size()), from_float<T>(kUntouched)));
    lse_.write(std::vector<float>(static_cast<std::size_t>(lse_.size()), kUntouched));
    return total;
  }

  void launch_append(std::int64_t tokens, Stream stream) const {
    AppendKvArgs<T> args{{new_k_.data(), {tokens, options_.kv_heads, options_.head_dim}},
                         {new_v_.data(), {tokens, options_.kv_heads, options_.head_dim}},
                         {new_slots_.data(), {tokens}},
                         pages()};
    if (options_.config.uses_landmarks()) {
      args.landmarks = AppendLandmarks<T>{landmark_view(), table(), lengths(), cu()};
    }
    if (options_.budget) {
      args.store = AppendStore{store(), table(), lengths(), cu(), cache()};
      // A plan of prefill has no cache of selections.
      if (options_.admits_apart || options_.is_prefill) args.store->cache.reset();
    }
    require(options_.through_c ? append_kv_through_c(options_.device, args)
                               : append_kv<T>(options_.device, args, stream));
  }

  void launch_attend(std::int64_t total, Stream stream) const {
    AttentionArgs<T> args;
    args.q = {q_.data(), {total, options_.q_heads, options_.head_dim}};
    args.kv = {pages(), table()};
    args.seq_lens = lengths();
    args.cu_seqlens_q = cu();
    args.out = {out_.data(), {total, options_.q_heads, options_.head_dim}};
    args.lse = TensorView<float, 2>(lse_.data(), {total, options_.q_heads});
    if (options_.config.num_stages() > 0 && !options_.is_prefill) args.cache = cache();
    if (options_.config.uses_landmarks()) args.landmarks = landmark_view();
    if (options_.budget) args.store = store();
    const Workspace workspace(workspace_->data(), static_cast<std::size_t>(workspace_->size()));
    require(options_.through_c              ? run_through_c(plan_.op, plan_, args, workspace)
            : plan_.op == Operator::kDecode ? run_decode(plan_, args, workspace, stream)
                                            : run_prefill(plan_, args, workspace, stream));
  }

  void launch_admission(Stream stream) const {
    const AdmitKvStoreArgs<T> args{store(), pages(), table(), lengths(), cache()};
    require(options_.through_c ? admit_kv_store_through_c(args) : admit_kv_store<T>(args, stream));
  }

  /// Of so many rows; nothing behind them may have been touched.
  [[nodiscard]] Result read_result(std::int64_t total) const {
    Result result{out_.read(), lse_.read()};
    const auto cut = [](auto& values, std::int64_t size) {
      CHECK(std::all_of(values.begin() + size, values.end(),
                        [](auto value) { return to_float(value) == kUntouched; }));
      values.resize(static_cast<std::size_t>(size));
    };
    cut(result.out, total * options_.q_heads * options_.head_dim);
    cut(result.lse, total * options_.q_heads);
    CHECK(out_.guards_intact());
    CHECK(workspace_->guards_intact());
    if (store_memory_) CHECK(store_memory_->guards_intact());
    return result;
  }

 private:
  static constexpr float kUntouched = 7.f;

  /// Rows of a call at most.
  [[nodiscard]] std::int64_t most_rows() const {
    return options_.batch * (options_.is_prefill ? options_.max_len : kMaxDecodeRows);
  }

  void use_multiprocessors(int count) {
    cuda::PrefillSchedule schedule = cuda::prefill_schedule(plan_);
    schedule.multiprocessors = count;
    schedule.dense_search_blocks = std::min(schedule.dense_search_blocks, count);
    plan_.schedule.set(schedule);
  }

  static void require(const Status& status) {
    INFO(status.message());
    REQUIRE(status.ok());
  }

  /// Lengths as they are, and rows of the call.
  void write_batch(const std::vector<std::int64_t>& rows) {
    std::vector<std::int32_t> lengths;
    std::vector<std::int32_t> store_rows;
    std::vector<std::int32_t> cu{0};
    for (std::int64_t b = 0; b < options_.batch; ++b) {
      lengths.push_back(static_cast<std::int32_t>(members_[b].len));
      store_rows.push_back(static_cast<std::int32_t>(members_[b].row));
      cu.push_back(cu.back() + static_cast<std::int32_t>(rows.empty() ? 0 : rows[b]));
    }
    lengths_.write(lengths);
    rows_.write(store_rows);
    cu_.write(cu);
    table_.write(host_table_);
  }

  [[nodiscard]] KvPages<T> pages() const {
    T* const data = resident_ ? resident_->data() : reinterpret_cast<T*>(home_.data());
    return kv_home_pages(data, num_blocks_, options_.kv_heads, options_.head_dim);
  }
  [[nodiscard]] TensorView<const std::int32_t, 2> table() const {
    return {table_.data(), {options_.batch, columns_}};
  }
  [[nodiscard]] TensorView<const std::int32_t, 1> lengths() const {
    return {lengths_.data(), {options_.batch}};
  }
  [[nodiscard]] TensorView<const std::int32_t, 1> cu() const {
    return {cu_.data(), {options_.batch + 1}};
  }
  /// A slot for each row of the store, as for a request.
  [[nodiscard]] SelectionCache cache() const {
    return {cache_->data(), options_.batch, {refresh_.data(), {options_.batch}}, {}};
  }
  /// Of chunks of 64; request b owns page b.
  [[nodiscard]] Landmarks<T> landmark_view() const {
    Landmarks<T> view;
    view.num_levels = 1;
    view.levels[0] =
        landmark_level_by_head(landmarks_.data(), 64, options_.batch, options_.max_len / 64,
                               options_.kv_heads, options_.head_dim);
    return view;
  }

  StoreEngineOptions options_;
  std::int64_t columns_;
  std::int64_t num_blocks_;
  std::vector<Member> members_;
  std::vector<std::int32_t> host_table_;
  AttentionPlan plan_;
  KvStorePlan store_plan_;
  HostMemory home_;
  std::optional<DeviceBuffer<T>> resident_;
  std::optional<DeviceBuffer<std::byte>> store_memory_;
  std::optional<DeviceBuffer<std::byte>> workspace_;
  std::optional<DeviceBuffer<std::byte>> cache_;
  DeviceBuffer<std::int32_t> table_;
  DeviceBuffer<std::int32_t> rows_;
  DeviceBuffer<std::int32_t> lengths_;
  DeviceBuffer<std::int32_t> cu_;
  DeviceBuffer<std::int32_t> refresh_;
  DeviceBuffer<T> landmarks_;
  DeviceBuffer<T> new_k_;
  DeviceBuffer<T> new_v_;
  DeviceBuffer<std::int64_t> new_slots_;
  DeviceBuffer<T> q_;
  DeviceBuffer<T> out_;
  DeviceBuffer<float> lse_;
};

}  // namespace hip_attn::test
