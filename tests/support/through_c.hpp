/// Calls of C++ that go through the C interface: the same arguments as DLTensors and structs, and a
/// Status of the code and message that come back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "c_api/handles.hpp"
#include "c_api/stores.hpp"
#include "c_api/tensors.hpp"
#include "catch.hpp"
#include "hip_attn/c/hip_attn.h"
#include "hip_attn/hip_attn.hpp"
#include "tested_types.hpp"

namespace hip_attn::test {

inline DLDevice dl_device(Device device) {
  return {device.type == DeviceType::kCpu ? kDLCPU : kDLCUDA, device.index};
}

/// The Status of call(message, capacity).
template <typename Call>
Status status_of_c(const Call& call) {
  std::array<char, 2048> text;
  text.fill('?');
  const HipAttnStatus code = call(text.data(), text.size());
  if (code == HIP_ATTN_OK) {
    CHECK(text[0] == '\0');
    return {};
  }
  return {static_cast<StatusCode>(code), std::string(text.data())};
}

/// C arguments of C++ ones, and what they point at.
class CArguments {
 public:
  explicit CArguments(Device device) : device_(dl_device(device)) {}
  CArguments(const CArguments&) = delete;
  CArguments& operator=(const CArguments&) = delete;

  template <typename T, int Rank>
  const DLTensor* tensor(const TensorView<T, Rank>& view) {
    Tensor& made = tensors_.emplace_back();
    made.sizes.assign(view.sizes.begin(), view.sizes.end());
    made.strides.assign(view.strides.begin(), view.strides.end());
    made.tensor.data = const_cast<std::remove_const_t<T>*>(view.data);
    made.tensor.device = device_;
    made.tensor.ndim = Rank;
    made.tensor.dtype = c_api::dtype_of<T>();
    made.tensor.shape = made.sizes.data();
    made.tensor.strides = made.strides.data();
    return &made.tensor;
  }
  template <typename T, int Rank>
  const DLTensor* tensor(const std::optional<TensorView<T, Rank>>& view) {
    return view ? tensor(*view) : nullptr;
  }

  template <typename T>
  const HipAttnKvPages* pages(const KvPages<T>& pages) {
    return keep(HipAttnKvPages{sizeof(HipAttnKvPages), tensor(pages.k), tensor(pages.v)});
  }
  template <typename T>
  const HipAttnPagedKv* paged_kv(const PagedKv<T>& kv, bool has_store = false) {
    return keep(HipAttnPagedKv{sizeof(HipAttnPagedKv), home_pages(kv.pages, has_store),
                               tensor(kv.block_table)});
  }
  template <typename T>
  const HipAttnLandmarks* landmarks(const Landmarks<T>& landmarks) {
    std::vector<HipAttnLandmarkLevel>& levels = levels_.emplace_back();
    for (const LandmarkLevel<T>& level : landmarks.levels) {
      levels.push_back({sizeof(HipAttnLandmarkLevel), level.chunk_size, tensor(level.rows),
                        tensor(level.block_table)});
    }
    return keep(HipAttnLandmarks{sizeof(HipAttnLandmarks), landmarks.num_levels, levels.data(),
                                 keep(landmarks.spread)});
  }
  template <typename I>
  const HipAttnSelection* selection(const std::optional<SelectionView<I>>& view) {
    if (!view) return nullptr;
    return keep(HipAttnSelection{sizeof(HipAttnSelection), tensor(view->blocks),
                                 tensor(view->counts), tensor(view->window_start)});
  }
  const HipAttnSelectionCache* cache(std::size_t slot_bytes,
                                     const std::optional<SelectionCache>& cache) {
    if (!cache) return nullptr;
    const TensorView<std::byte, 1> data(static_cast<std::byte*>(cache->data),
                                        {cache->num_slots * static_cast<std::int64_t>(slot_bytes)});
    return keep(HipAttnSelectionCache{sizeof(HipAttnSelectionCache), tensor(data), cache->num_slots,
                                      tensor(cache->refresh_from), tensor(cache->slots)});
  }

  const HipAttnKvStore* store(const KvStore& store) {
    const HipAttnKvStorePlan* plan = nullptr;
    const DLTensor* memory = nullptr;
    if (store.plan != nullptr) {
      plan = &store_plans_.emplace_back(HipAttnKvStorePlan{*store.plan});
      memory =
          tensor(TensorView<std::byte, 1>(static_cast<std::byte*>(store.memory),
                                          {static_cast<std::int64_t>(store.plan->memory_bytes)}));
    }
    return keep(HipAttnKvStore{sizeof(HipAttnKvStore), plan,
                               store.memory != nullptr ? memory : nullptr, tensor(store.rows)});
  }

  template <Element T, StoredFor<T> C>
  const DLTensor* queries(const AttentionArgs<T, C>& args) {
    if (!args.q_request_stride) return tensor(args.q);
    const auto& [data, sizes, strides] = args.q;
    return tensor(
        TensorView<const T, 4>(data, {args.seq_lens.sizes[0], sizes[0], sizes[1], sizes[2]},
                               {*args.q_request_stride, strides[0], strides[1], strides[2]}));
  }

  template <Element T, StoredFor<T> C>
  HipAttnAttentionArgs attention(const AttentionPlan& plan, const AttentionArgs<T, C>& args) {
    return {sizeof(HipAttnAttentionArgs),
            queries(args),
            paged_kv(args.kv, args.store.has_value()),
            tensor(args.seq_lens),
            tensor(args.cu_seqlens_q),
            tensor(args.out),
            tensor(args.lse),
            args.scale ? keep(*args.scale) : nullptr,
            args.logit_softcap ? keep(*args.logit_softcap) : nullptr,
            selection(args.selection_out),
            selection(args.selection),
            cache(plan.selection_cache_slot_bytes, args.cache),
            args.landmarks ? landmarks(*args.landmarks) : nullptr,
            tensor(args.counters),
            args.store ? store(*args.store) : nullptr};
  }
  template <Element T>
  HipAttnAppendKvArgs append_kv(const AppendKvArgs<T>& args) {
    const HipAttnAppendLandmarks* upkeep = nullptr;
    if (args.landmarks) {
      upkeep = keep(HipAttnAppendLandmarks{
          sizeof(HipAttnAppendLandmarks), landmarks(args.landmarks->landmarks),
          tensor(args.landmarks->block_table), tensor(args.landmarks->seq_lens),
          tensor(args.landmarks->cu_seqlens)});
    }
    const HipAttnAppendStore* hot = nullptr;
    if (args.store) {
      const AppendStore& of = *args.store;
      hot = keep(HipAttnAppendStore{sizeof(HipAttnAppendStore), store(of.store),
                                    tensor(of.block_table), tensor(of.seq_lens),
                                    tensor(of.cu_seqlens), cache(slot_bytes(of.store), of.cache)});
    }
    return {sizeof(HipAttnAppendKvArgs),
            tensor(args.k),
            tensor(args.v),
            tensor(args.slot_mapping),
            home_pages(args.pages, args.store.has_value()),
            upkeep,
            hot};
  }
  template <Element T>
  HipAttnAdmitKvStoreArgs admit_kv_store(const AdmitKvStoreArgs<T>& args) {
    return {sizeof(HipAttnAdmitKvStoreArgs), store(args.store),
            home_pages(args.pages, true),    tensor(args.block_table),
            tensor(args.seq_lens),           cache(slot_bytes(args.store), args.cache)};
  }
  HipAttnBindKvStoreArgs bind_kv_store(const BindKvStoreArgs& args) {
    return {sizeof(HipAttnBindKvStoreArgs), store(args.store), args.num_home_blocks,
            tensor(args.block_table), tensor(args.seq_lens)};
  }
  template <Element T>
  HipAttnUpdateLandmarksArgs update_landmarks(const UpdateLandmarksArgs<T>& args) {
    return {
        sizeof(HipAttnUpdateLandmarksArgs), paged_kv(args.kv), tensor(args.from), tensor(args.to),
        landmarks(args.landmarks),          args.max_tokens};
  }
  template <Element T>
  HipAttnMergeStatesArgs merge_states(const MergeStatesArgs<T>& args) {
    return {sizeof(HipAttnMergeStatesArgs), tensor(args.partial_out), tensor(args.partial_lse),
            tensor(args.out), tensor(args.lse)};
  }
  template <Element T>
  HipAttnAddSinkLogitsArgs add_sink_logits(const AddSinkLogitsArgs<T>& args) {
    return {sizeof(HipAttnAddSinkLogitsArgs), tensor(args.sink_logits), tensor(args.out),
            tensor(args.lse)};
  }

 private:
  struct Tensor {
    DLTensor tensor{};
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
  };

  static std::size_t slot_bytes(const KvStore& store) {
    return store.plan != nullptr ? c_api::slot_bytes_of(*store.plan) : 0;
  }

  // Pages in host memory, where they have a store.
  template <typename T>
  const HipAttnKvPages* home_pages(const KvPages<T>& given, bool has_store) {
    const DLDevice device = device_;
    if (has_store && device.device_type == kDLCUDA) device_.device_type = kDLCUDAHost;
    const HipAttnKvPages* const result = pages(given);
    device_ = device;
    return result;
  }

  // A copy that stays where it is.
  template <typename Value>
  const Value* keep(const Value& value) {
    return ::new (values_.emplace_back().data()) Value(value);
  }

  DLDevice device_;
  std::deque<Tensor> tensors_;
  std::deque<HipAttnKvStorePlan> store_plans_;
  std::deque<std::vector<HipAttnLandmarkLevel>> levels_;
  struct alignas(16) Bytes : std::array<std::byte, 64> {};
  std::deque<Bytes> values_;
};

template <Element T, StoredFor<T> C>
Status run_through_c(Operator op, const AttentionPlan& plan, const AttentionArgs<T, C>& args,
                     Workspace workspace) {
  CArguments arguments(plan.shape.device);
  const HipAttnPlan handle{plan};
  const HipAttnAttentionArgs c_args = arguments.attention(plan, args);
  const auto run = op == Operator::kPrefill ? hip_attn_prefill : hip_attn_decode;
  return status_of_c([&](char* message, std::size_t capacity) {
    return run(&handle, &c_args, workspace.data(), workspace.size(), nullptr, message, capacity);
  });
}

template <Element T>
Status append_kv_through_c(Device device, const AppendKvArgs<T>& args) {
  CArguments arguments(device);
  const HipAttnAppendKvArgs c_args = arguments.append_kv(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_append_kv(dl_device(device), &c_args, nullptr, message, capacity);
  });
}

template <Element T>
Status admit_kv_store_through_c(const AdmitKvStoreArgs<T>& args) {
  CArguments arguments(args.store.plan->shape.device);
  const HipAttnAdmitKvStoreArgs c_args = arguments.admit_kv_store(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_admit_kv_store(&c_args, nullptr, message, capacity);
  });
}

inline Status clear_kv_store_through_c(const KvStore& store) {
  CArguments arguments(store.plan->shape.device);
  const HipAttnKvStore* const c_store = arguments.store(store);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_clear_kv_store(c_store, nullptr, message, capacity);
  });
}

inline Status bind_kv_store_through_c(const BindKvStoreArgs& args) {
  CArguments arguments(args.store.plan->shape.device);
  const HipAttnBindKvStoreArgs c_args = arguments.bind_kv_store(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_bind_kv_store(&c_args, nullptr, message, capacity);
  });
}

inline Status read_kv_store_counters_through_c(const KvStore& store, KvStoreCounters& counters) {
  CArguments arguments(store.plan->shape.device);
  const HipAttnKvStore* const c_store = arguments.store(store);
  HipAttnKvStoreCounters read{sizeof(HipAttnKvStoreCounters), -1, -1, -1};
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_read_kv_store_counters(c_store, &read, nullptr, message, capacity);
  });
  if (status.ok()) counters = {read.hits, read.misses, read.evictions};
  return status;
}

template <Element T>
Status update_landmarks_through_c(Device device, const UpdateLandmarksArgs<T>& args) {
  CArguments arguments(device);
  const HipAttnUpdateLandmarksArgs c_args = arguments.update_landmarks(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_update_landmarks(dl_device(device), &c_args, nullptr, message, capacity);
  });
}

template <Element T>
Status merge_states_through_c(Device device, const MergeStatesArgs<T>& args) {
  CArguments arguments(device);
  const HipAttnMergeStatesArgs c_args = arguments.merge_states(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_merge_states(dl_device(device), &c_args, nullptr, message, capacity);
  });
}

inline DLDataType dl_dtype(ElementType type) {
  return type == ElementType::kFloat32   ? c_api::dtype_of<float>()
         : type == ElementType::kFloat16 ? c_api::dtype_of<float16>()
                                         : c_api::dtype_of<bfloat16>();
}

inline Status plan_kv_store_through_c(const HipConfig& config, const KvStoreShape& shape,
                                      std::size_t budget_bytes, KvStorePlan& plan) {
  const HipAttnConfig c_config{config, {}};
  const HipAttnKvStoreShape c_shape{sizeof(HipAttnKvStoreShape),
                                    dl_device(shape.device),
                                    dl_dtype(shape.type),
                                    shape.max_requests,
                                    shape.max_seq_len,
                                    shape.num_kv_heads,
                                    shape.head_dim};
  HipAttnKvStorePlan* handle = nullptr;
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_plan_kv_store(&c_config, &c_shape, budget_bytes, &handle, message, capacity);
  });
  if (handle != nullptr) plan = handle->plan;
  hip_attn_kv_store_plan_destroy(handle);
  return status;
}

template <Element T>
Status add_sink_logits_through_c(Device device, const AddSinkLogitsArgs<T>& args) {
  CArguments arguments(device);
  const HipAttnAddSinkLogitsArgs c_args = arguments.add_sink_logits(args);
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_add_sink_logits(dl_device(device), &c_args, nullptr, message, capacity);
  });
}

inline Status make_index_selection_through_c(const AttentionPlan& plan,
                                             const IndexSelectionArgs& args) {
  CArguments arguments(plan.shape.device);
  const HipAttnPlan handle{plan};
  const HipAttnIndexSelectionArgs c_args{
      sizeof(HipAttnIndexSelectionArgs), arguments.tensor(args.indices),
      arguments.tensor(args.seq_lens), arguments.tensor(args.cu_seqlens_q),
      arguments.selection(std::optional(args.selection))};
  return status_of_c([&](char* message, std::size_t capacity) {
    return hip_attn_make_index_selection(&handle, &c_args, nullptr, message, capacity);
  });
}

/// A plan made through C; `config` need not hold.
inline Status plan_through_c(Operator op, ElementType type, ElementType cache_type,
                             const HipConfig& config, const AttentionShape& shape,
                             AttentionPlan& plan) {
  const HipAttnConfig c_config{config, {}};
  const HipAttnShape c_shape{
      sizeof(HipAttnShape), dl_device(shape.device), dl_dtype(type),    dl_dtype(cache_type),
      shape.batch,          shape.total_q,           shape.max_seq_len, shape.num_q_heads,
      shape.num_kv_heads,   shape.head_dim,          shape.num_threads, shape.staging_bytes};
  HipAttnPlan* handle = nullptr;
  const auto make = op == Operator::kPrefill ? hip_attn_plan_prefill : hip_attn_plan_decode;
  const Status status = status_of_c([&](char* message, std::size_t capacity) {
    return make(&c_config, &c_shape, &handle, message, capacity);
  });
  if (handle != nullptr) plan = handle->plan;
  hip_attn_plan_destroy(handle);
  return status;
}

inline void check_same_status(const Status& cpp, const Status& c) {
  CHECK(hip_attn_status_name(static_cast<HipAttnStatus>(c.code())) ==
        std::string(to_string(cpp.code())));
  CHECK(c.message() == cpp.message());
}

/// The Status of C++, after a look that C says the same.
inline Status same_through_c(const Status& cpp, const Status& c) {
  check_same_status(cpp, c);
  return cpp;
}

}  // namespace hip_attn::test
