// The CUDA backend as the operators see it; compiled only when HIP_ATTN_HAS_CUDA is 1. Arguments
// have been validated. Nothing here allocates or synchronises.
#pragma once

#include "hip_attn/attention.hpp"
#include "hip_attn/index_selection.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn/merge.hpp"
#include "hip_attn/sink_logits.hpp"
#include "hip_attn/status.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn::cuda {

// Ok when kernels of this build can run on the device. Asks the driver once per device.
Status check_device(Device device);

template <Element T>
Status append_kv(Device device, const AppendKvArgs<T>& args, Stream stream);

// Not of float, for which plan_kv_store makes no store.
template <Element T>
Status admit_to_store(Device device, const AppendStore& of, const KvPages<const T>& pages,
                      Stream stream);

Status clear_store(const KvStore& store, Stream stream);
Status bind_store(const BindKvStoreArgs& args, Stream stream);
Status read_counts(const KvStore& store, std::uint64_t (&counts)[kKvCounts], Stream stream);

Status pin_host_memory(Device device, void* data, std::size_t bytes);
void unpin_host_memory(void* data) noexcept;

template <Element T>
Status update_landmarks(Device device, const UpdateLandmarksArgs<T>& args, Stream stream);

template <Element T>
Status merge_states(Device device, const MergeStatesArgs<T>& args, Stream stream);

template <Element T>
Status add_sink_logits(Device device, const AddSinkLogitsArgs<T>& args, Stream stream);

// For the device of the plan.
Status make_index_selection(const AttentionPlan& plan, const IndexSelectionArgs& args,
                            Stream stream);

// Complete a plan whose CPU-independent fields are set: schedule, workspace, limits.
Status plan_prefill(AttentionPlan& plan);
Status plan_decode(AttentionPlan& plan);

template <Element T, StoredFor<T> C>
Status run_prefill(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* workspace,
                   Stream stream);

template <Element T, StoredFor<T> C>
Status run_decode(const AttentionPlan& plan, const AttentionArgs<T, C>& args, std::byte* workspace,
                  Stream stream);

}  // namespace hip_attn::cuda
