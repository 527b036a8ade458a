/// What prefill and decode have in common: shapes, plans and arguments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

#include "hip_attn/config.hpp"
#include "hip_attn/kv.hpp"
#include "hip_attn/selection.hpp"
#include "hip_attn/types.hpp"

namespace hip_attn {

/// Rows of one request that a decode call takes: more than one is speculative decoding.
inline constexpr std::int64_t kMaxDecodeRows = 8;

/// The maxima that a plan is made for; calls may be smaller in every field but heads and head_dim.
struct AttentionShape {
  Device device = kCpu;
  std::int64_t batch = 1;         ///< B, requests; >= 0
  std::int64_t total_q = 1;       ///< query rows of all requests together; >= 0
  std::int64_t max_seq_len = 0;   ///< keys of one request; 0 to 2^31 - 1
  std::int64_t num_q_heads = 1;   ///< Hq, a multiple of Hk
  std::int64_t num_kv_heads = 1;  ///< Hk
  std::int64_t head_dim = 128;    ///< D, one that was built
  /// CPU: threads of a call, which workspace_bytes is for; 0 to 4096. 0: as many as OpenMP would
  /// start where the plan is made.
  int num_threads = 0;
  /// Prefill with a store on CUDA: bytes of the workspace through which blocks come over the link,
  /// each once in a call (docs/guide/offload.md); what they do not hold is read where it lies. 0:
  /// nothing is staged. Calls without a store, decode and the CPU do not use it.
  std::size_t staging_bytes = 0;
};

enum class Operator : int { kPrefill, kDecode };

/// What a backend keeps in a plan for its launches. A value that nobody else reads.
class BackendSchedule {
 public:
  template <typename Schedule>
  Schedule get() const {
    static_assert(std::is_trivially_copyable_v<Schedule> && sizeof(Schedule) <= kBytes);
    Schedule schedule;
    std::memcpy(&schedule, bytes_.data(), sizeof(Schedule));
    return schedule;
  }
  template <typename Schedule>
  void set(const Schedule& schedule) {
    static_assert(std::is_trivially_copyable_v<Schedule> && sizeof(Schedule) <= kBytes);
    std::memcpy(bytes_.data(), &schedule, sizeof(Schedule));
  }

 private:
  static constexpr std::size_t kBytes = 64;
  std::array<std::byte, kBytes> bytes_{};
};

/// Made by plan_prefill or plan_decode, which fill and check every field. A value: copy it freely,
/// use it from several threads, keep it for as many calls as fit the shape.
struct AttentionPlan {
  Operator op = Operator::kPrefill;
  ElementType type = ElementType::kFloat32;        ///< of q and out
  ElementType cache_type = ElementType::kFloat32;  ///< of keys and values
  HipConfig config;
  AttentionShape shape;
  std::size_t workspace_bytes = 0;             ///< exact; independent of max_seq_len^2
  std::int64_t selection_rows = 0;             ///< rows of a BlockSelection for the largest call
  std::int64_t max_selected_blocks = 0;        ///< blocks of one unit at most, >= 1
  std::size_t selection_cache_slot_bytes = 0;  ///< decode: bytes of a SelectionCache per slot
  BackendSchedule schedule;                    ///< chosen for the device of the shape
  /// prefill: query blocks whose first row lies before this position attend to every key, because
  /// that costs less than a search (docs/guide/algorithm.md, "Where a search does not pay"). Chosen
  /// by plan_prefill on CUDA by the cost model (cost.hpp), 0 on the CPU; set it freely. 0: always
  /// search.
  std::int64_t dense_until = 0;
  /// CPU: threads that a call has room for. It runs on so many, or fewer where OpenMP gives fewer
  /// (inside a parallel region), a call is short, or the library was built without OpenMP. Lower it
  /// freely; a higher one is refused, because the workspace is too small for it.
  int num_threads = 1;
};

/// Arguments of run_prefill and run_decode. All memory is on the plan's device. Data pointers and
/// row strides are multiples of 16 bytes. Sizes marked B and total_q are this call's own.
/// What is written has memory of its own. Where out or lse share it with q, keys, values, landmarks
/// that are read, the workspace or each other, the call is refused (kOverlap; of views whose outer
/// strides differ, all between first and last element counts). Of lengths, block tables,
/// selections, selection cache and counters this is not checked.
///
/// T is the type of q and out, C that of the cache (StoredFor). The arithmetic is fp32 whatever
/// they are: a float q over a 16-bit cache is used as it is on the CPU, keys and values are
/// widened, and out is not rounded. Pooled queries of the search are rounded to T. On CUDA a float
/// q is rounded to C as it is read.
template <Element T, StoredFor<T> C = T>
struct AttentionArgs {
  /// [total_q, Hq, D]; row i of request b is row cu_seqlens_q[b] + i, which stands at position
  /// seq_len - q_len + i. With q_request_stride [R, Hq, D], the rows of request 0.
  TensorView<const T, 3> q;
  /// Elements from row i of a request in q to row i of the next one, for a batch whose rows do not
  /// all follow one another, such as [B, Hq, R, D]; above 0, a multiple of 16 bytes. No request has
  /// more than R rows then. The rows of out follow one another all the same.
  std::optional<std::int64_t> q_request_stride;
  PagedKv<C> kv;  ///< the rows of this call already appended
  /// [B] keys of each request; 0: padding, whose rows get 0. Of a request without keys or rows
  /// nothing else is looked at.
  TensorView<const std::int32_t, 1> seq_lens;
  TensorView<const std::int32_t, 1> cu_seqlens_q;  ///< [B + 1] ascending from 0 to total_q
  TensorView<T, 3> out;                            ///< [total_q, Hq, D] written
  std::optional<TensorView<float, 2>>
      lse;                     ///< [total_q, Hq] written: natural log of the sum of exp(logit)
  std::optional<float> scale;  ///< finite; default 1 / sqrt(D)
  std::optional<float> logit_softcap;  ///< finite c > 0: logits become c * tanh(scale * q.k / c)
  std::optional<BlockSelection> selection_out;   ///< written
  std::optional<ConstBlockSelection> selection;  ///< given: no search, attend to these blocks
  std::optional<SelectionCache> cache;           ///< decode only; not together with `selection`
  /// Needed where the config has landmark stages and no `selection` is given: a level of each
  /// stage's chunk_size, with the landmarks of all complete chunks of every request, the rows of
  /// this call included (update_landmarks). Other levels are not looked at.
  std::optional<Landmarks<const C>> landmarks;
  /// Where blocks of `kv`, which are kv_home_pages then, lie on the device as well. On the CPU it
  /// is checked and not used.
  std::optional<KvStore> store;
  /// int64 [num_stages + 2], added to: what the search of each stage reads, summed over units,
  /// which is landmarks in a landmark stage and keys in any other; keys read by attention, summed
  /// over units; (row, KV head, key) triples attended.
  std::optional<TensorView<std::int64_t, 1>> counters;
};

}  // namespace hip_attn
