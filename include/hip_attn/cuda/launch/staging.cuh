/// The launches of a prefill that brings the blocks of a store over the link once, some KV heads at
/// a time. On compute capability 9.0 heads are copied while those before them are searched and
/// attended to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "hip_attn/carver.hpp"
#include "hip_attn/cuda/launch/launch.hpp"
#include "hip_attn/cuda/launch/schedule.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/offload/staging.cuh"
#include "hip_attn/cuda/prefill_params.hpp"

namespace hip_attn::cuda {

/// Pieces of the workspace. The store and the lengths of a call are not known yet.
struct StagingMemory {
  StagingParams params{};
  /// What the landmark stages of a search leave: chunks, one KV head beside the other.
  SelectionParams<std::int32_t> candidates{};
};

/// Stages that read no key: those of landmarks, which come first.
inline int landmark_stages(const SearchPlan& search) {
  int stages = 0;
  while (stages < search.num_stages && search.stages[stages].rule == ScanRule::kLandmark) ++stages;
  return stages;
}

/// A selection of the workspace for so many rows.
inline SelectionParams<std::int32_t> take_selection(Carver& carver, std::int64_t rows,
                                                    std::int64_t heads, std::int64_t most) {
  SelectionParams<std::int32_t> selection{};
  selection.counts = carver.take<std::int32_t>(rows * heads);
  selection.counts_row_stride = heads;
  selection.window_start = carver.take<std::int32_t>(rows * heads);
  selection.window_row_stride = heads;
  selection.blocks = carver.take<std::int32_t>(rows * heads * most);
  selection.blocks_row_stride = heads * most;
  selection.blocks_head_stride = most;
  selection.max_blocks = most;
  return selection;
}

/// Nothing where the plan's shape has no staging_bytes for a block.
inline StagingMemory take_staging(const AttentionPlan& plan, Carver& carver) {
  const AttentionShape& shape = plan.shape;
  StagingMemory memory;
  StagingParams& params = memory.params;
  constexpr std::int64_t kElementBytes = 2;  // of a cache on CUDA that has a store
  const std::int64_t block_bytes = 2 * kKvBlockTokens * shape.head_dim * kElementBytes;
  const std::int64_t units = shape.batch * shape.num_kv_heads;
  const std::int64_t columns = ceil_div(shape.max_seq_len, kKvBlockTokens);
  const std::int64_t pages = std::min(
      static_cast<std::int64_t>(shape.staging_bytes / static_cast<std::size_t>(block_bytes)),
      units * columns);
  if (pages == 0) return memory;
  const SearchPlan search = make_search_plan(plan.config, shape.max_seq_len);
  if (const int stages = landmark_stages(search); stages > 0) {
    memory.candidates = take_selection(carver, plan.selection_rows, shape.num_kv_heads,
                                       search.stages[stages - 1].max_survivors);
  }
  params.num_pages = saturated(pages);
  params.vectors_shift = shift_of(block_bytes / 16);
  params.columns = columns;
  params.mark_words = static_cast<std::int32_t>(ceil_div(params.columns, 32));
  params.table = carver.take<std::int32_t>(units * params.columns);
  params.marks = carver.take<std::uint32_t>(units * params.mark_words);
  params.wanted = carver.take<std::int32_t>(shape.num_kv_heads);
  params.sources = carver.take<std::int32_t>(pages);
  params.blocks = carver.take<std::byte>(pages * block_bytes);
  return memory;
}

/// The search up to its last landmark stage, which leaves the chunks that the stages behind it cut.
template <typename Stored>
PrefillParams<Stored> search_of_candidates(const PrefillParams<Stored>& params,
                                           const SelectionParams<std::int32_t>& candidates) {
  PrefillParams<Stored> of = params;
  of.search.num_stages = landmark_stages(params.search);
  of.search.block_shift = params.search.stages[of.search.num_stages - 1].chunk_shift;
  of.selection = candidates;
  return of;
}

inline SelectionParams<const std::int32_t> to_const(const SelectionParams<std::int32_t>& of) {
  return {of.blocks, of.blocks_row_stride, of.blocks_head_stride, of.max_blocks,
          of.counts, of.counts_row_stride, of.window_start,       of.window_row_stride};
}

/// The same call for KV heads [first, first + heads) alone.
template <typename Stored>
PrefillParams<Stored> heads_of(const PrefillParams<Stored>& params, std::int32_t first,
                               std::int32_t heads) {
  PrefillParams<Stored> of = params;
  const std::int64_t first_q = std::int64_t{first} * params.group;
  const auto skip = [&](auto& tensor) {
    using Bytes = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(tensor.data)>>,
                                     const std::byte*, std::byte*>;
    const std::int64_t size = tensor.is_float ? sizeof(float) : sizeof(Stored);
    tensor.data = static_cast<Bytes>(tensor.data) + first_q * tensor.head_stride * size;
  };
  skip(of.tensors.q);
  skip(of.tensors.out);
  if (of.tensors.lse) of.tensors.lse += first_q;
  of.tensors.kv.map.block_table += first * of.tensors.kv.map.table_head_stride;
  for (LandmarkTensor<Stored>& level : of.landmarks) {
    if (level.hi.data) level.hi.data += first * level.hi.head_stride;
  }
  const auto skip_selection = [&](auto& selection) {
    if (!selection.blocks) return;
    selection.blocks += first * selection.blocks_head_stride;
    selection.counts += first;
    selection.window_start += first;
  };
  skip_selection(of.selection_in);
  skip_selection(of.candidates);
  skip_selection(of.selection);
  of.num_kv_heads = heads;
  of.heads_at_once = std::min(params.heads_at_once, heads);
  return of;
}

/// A copy by itself, which may find blocks on the device, too.
inline constexpr LaunchShape kCopyAlone{.blocks = 8, .threads = kStageThreads};
/// A copy beside search and attention: on an H200 three multiprocessors read pinned memory at the
/// link's rate. They have to be the copy's own: the grids beside are resident as a whole and share
/// out their units beforehand, so a thread block that waits for a place doubles their time. The
/// copy's thread blocks take so many registers that none of search or attention fits beside one
/// (docs/lab/offload.md).
inline constexpr LaunchShape kCopyBeside{.blocks = 3, .threads = kStageThreads};

/// One call: its parameters, which read the store, are made to read what is staged.
template <typename Stored>
class StagedPrefill {
 public:
  StagedPrefill(const AttentionPlan& plan, const StagingMemory& memory, const KvStore& store,
                const KvPages<const Stored>& home, const PrefillParams<Stored>& params,
                Stream stream)
      : memory_(memory), params_(params), device_(plan.shape.device), stream_(stream) {
    StagingParams& staging = memory_.params;
    staging.store = store_params(store, home);
    staging.batch = params.tensors.batch;
    // Pages at home are numbered behind those that are staged.
    constexpr std::int64_t kMostPages = std::numeric_limits<std::int32_t>::max();
    staging.num_pages = static_cast<std::int32_t>(std::min<std::int64_t>(
        staging.num_pages, kMostPages - home.num_pages() * params.num_kv_heads));
    // What a head has at most: of its cache, or of what so many query blocks look at.
    std::int64_t most = std::min(staging.batch * staging.columns, home.num_pages());
    if (searches_landmarks()) {
      const SearchPlan& search = params.search;
      const StagePlan& last = search.stages[landmark_stages(search) - 1];
      const std::int64_t of_unit = (std::int64_t{last.max_survivors} << last.chunk_shift) +
                                   search.sink + std::int64_t{search.window} + 2 * params.block_q +
                                   4 * kKvBlockTokens;
      most = std::min(most, params.selection_rows * ceil_div(of_unit, kKvBlockTokens));
    }
    const PrefillSchedule schedule = prefill_schedule(plan);
    share_memory(std::max<std::int64_t>(most, 1), schedule);
    if (searches()) kernels_ = schedule.staged;
    read_staged_blocks(home);
    if (searches_landmarks()) {  // by a search of its own, with whose candidates the other begins
      params_.candidates = to_const(memory_.candidates);
      params_.first_stage = landmark_stages(params_.search);
    }
  }

  /// attend(params, companion) and search(params, companion) launch their kernels.
  template <typename Search, typename Attend>
  Status run(Search&& search, Attend&& attend) {
    if (Status status = begin(); !status.ok()) return status;
    return copies_beside_ ? run_beside_copies(search, attend) : run_in_turn(search, attend);
  }

 private:
  static constexpr StagedPart kAll{0, kStagedParts};

  /// Stages KV heads, searches and attends to them, one after the other.
  template <typename Search, typename Attend>
  Status run_in_turn(Search&& search, Attend&& attend) {
    const std::int32_t heads = params_.num_kv_heads;
    if (Status status = choose(0, heads, search, Companion{}); !status.ok()) return status;
    for (std::int32_t first = 0; first < heads; first += heads_) {
      if (Status status = stage(first, kAll, kCopyAlone); !status.ok()) return status;
      const PrefillParams<Stored> of = of_heads(first);
      if (of.selection.blocks) {
        if (Status status = search(of, Companion{}); !status.ok()) return status;
      }
      if (Status status = attend(of, Companion{}); !status.ok()) return status;
    }
    return {};
  }

  /// While KV heads are searched and attended to, and the landmarks of those behind the next ones
  /// are searched, the next ones are copied: a part beside each of these kernels.
  template <typename Search, typename Attend>
  Status run_beside_copies(Search&& search, Attend&& attend) {
    const std::int32_t heads = params_.num_kv_heads;
    const auto choose_beside = [&](std::int32_t first, std::int32_t copied, StagedPart part) {
      return beside(copied, part, [&](const Companion& copy) {
        return choose(first, std::min(heads_, heads - first), search, copy);
      });
    };
    const std::int32_t ahead = searches_landmarks() ? heads_ : heads;
    if (Status status = choose(0, ahead, search, Companion{}); !status.ok()) return status;
    if (Status status = ahead < heads ? choose_beside(ahead, 0, kAll) : stage(0, kAll, kCopyAlone);
        !status.ok())
      return status;
    for (std::int32_t first = 0; first < heads; first += heads_) {
      const std::int32_t next = first + heads_;
      const bool chooses = ahead < heads && next + heads_ < heads;
      const PrefillParams<Stored> of = of_heads(first);
      const CopyShares parts = kernels_.shares(chooses);
      if (of.selection.blocks) {
        const auto launch_search = [&](const Companion& copy) { return search(of, copy); };
        if (Status status = beside(next, parts.search, launch_search); !status.ok()) return status;
      }
      const auto launch_attend = [&](const Companion& copy) { return attend(of, copy); };
      if (Status status = beside(next, parts.attend, launch_attend); !status.ok()) return status;
      if (!chooses) continue;
      if (Status status = choose_beside(next + heads_, next, parts.choose); !status.ok())
        return status;
    }
    return {};
  }

  /// Marks what KV heads from `first` on read, behind a search of their landmarks.
  template <typename Search>
  Status choose(std::int32_t first, std::int32_t heads, Search&& search, const Companion& copy) {
    if (searches_landmarks()) {
      if (Status status = search(candidates_of(first, heads), copy); !status.ok()) return status;
    }
    return mark(first, heads);
  }

  /// Launches a kernel, and before it the copy of a part of KV heads from `first` on, if any.
  template <typename Launch>
  Status beside(std::int32_t first, StagedPart part, Launch&& launch) {
    if (part.count == 0 || first >= params_.num_kv_heads) return launch(Companion{});
    if (Status status = stage(first, part, kCopyBeside); !status.ok()) return status;
    return launch(Companion{static_cast<int>(kCopyBeside.blocks)});
  }

  [[nodiscard]] PrefillParams<Stored> of_heads(std::int32_t first) const {
    return heads_of(params_, first, std::min(heads_, params_.num_kv_heads - first));
  }

  /// The KV heads that are staged together, each with `most` blocks, and whether the next ones are
  /// copied meanwhile, into the other half of the memory: no more than the search has at work at
  /// once, and a quarter of all, because little runs beside the first copy, and no copy beside the
  /// last kernels.
  void share_memory(std::int64_t most, const PrefillSchedule& schedule) {
    const std::int64_t heads = params_.num_kv_heads;
    const std::int64_t rows = std::max(params_.selection_rows, 1);
    const auto evenly = [&](std::int64_t at_once) {
      return ceil_div(heads, ceil_div(heads, std::clamp<std::int64_t>(at_once, 1, heads)));
    };
    heads_ = static_cast<std::int32_t>(evenly(memory_.params.num_pages / most));
    const std::int64_t in_half = memory_.params.num_pages / 2 / most;
    // Few units take as long as one: if their blocks fit together they are copied together.
    const bool few = heads_ == heads && rows * heads <= schedule.multiprocessors;
    if (!schedule.sm90_attend || in_half == 0 || few) return;
    const std::int64_t at_work = 2 * schedule.multiprocessors / rows;
    const std::int64_t beside = evenly(std::min({in_half, at_work, ceil_div(heads, 4)}));
    copies_beside_ = beside < heads;
    if (copies_beside_) heads_ = static_cast<std::int32_t>(beside);
  }

  [[nodiscard]] bool searches() const {
    return params_.selection.blocks && !params_.selection_in.blocks;
  }
  [[nodiscard]] bool searches_landmarks() const { return searches() && memory_.candidates.blocks; }

  void read_staged_blocks(const KvPages<const Stored>& home) {
    const StagingParams& staging = memory_.params;
    KvTensors<Stored>& kv = params_.tensors.kv;
    for (PagedTensor<Stored>* tensor : {&kv.k, &kv.v}) {
      const std::int64_t offset = tensor == &kv.k ? 0 : kKvBlockTokens * home.head_dim();
      *tensor = near_and_far(reinterpret_cast<const Stored*>(staging.blocks) + offset,
                             home.k.data + offset, staging.num_pages, home.head_dim());
    }
    kv.map.num_pages = saturated(staging.num_pages + home.num_pages() * staging.store.num_kv_heads);
    kv.map.block_table = staging.table;
    kv.map.table_rows = nullptr;  // rows are requests
    kv.map.num_table_rows = staging.batch;
  }

  Status begin() const {
    // Loads on their way take lines of the L1. Here and not with the plan: nvcc gives each
    // translation unit a stub of its own for a kernel that is a template.
    const cudaError_t error = cudaFuncSetAttribute(stage_blocks_kernel<kStageThreads>,
                                                   cudaFuncAttributePreferredSharedMemoryCarveout,
                                                   cudaSharedmemCarveoutMaxL1);
    if (error != cudaSuccess) return to_status(error, "run_prefill");
    const std::int64_t entries =
        memory_.params.columns * params_.num_kv_heads * params_.tensors.batch;
    return launch("run_prefill", begin_staging_kernel<kStagingThreads>,
                  grid_for(std::max<std::int64_t>(entries, 1), kStagingThreads),
                  dim3(kStagingThreads), device_, stream_, memory_.params);
  }

  /// The search of landmarks for KV heads from `first` on, which leaves their candidates.
  [[nodiscard]] PrefillParams<Stored> candidates_of(std::int32_t first, std::int32_t heads) const {
    PrefillParams<Stored> of = params_;
    of.candidates = {};
    of.first_stage = 0;
    return heads_of(search_of_candidates(of, memory_.candidates), first, heads);
  }

  /// Marks what all query blocks read of KV heads from `first` on.
  Status mark(std::int32_t first, std::int32_t heads) const {
    MarkParams<Stored> marks{params_, memory_.params, params_.candidates, 0, first, false};
    if (params_.selection_in.blocks) {
      marks.chosen = params_.selection_in;
      marks.chunk_shift = params_.search.block_shift;
    } else if (searches_landmarks()) {
      marks.chunk_shift = params_.search.stages[params_.first_stage - 1].chunk_shift;
    } else {
      marks.all = params_.selection.blocks != nullptr;
    }
    const dim3 grid(static_cast<unsigned>(std::max(params_.selection_rows, 1)),
                    static_cast<unsigned>(heads));
    return launch("run_prefill", mark_blocks_kernel<Stored, kStagingThreads>, grid,
                  dim3(kStagingThreads), device_, stream_, marks);
  }

  /// Copies KV heads from `first` on, into one half of the memory or the other where copies run
  /// beside what reads the heads before. With their first part they are given pages.
  Status stage(std::int32_t first, StagedPart part, const LaunchShape& shape) {
    const std::int32_t halves = copies_beside_ ? 2 : 1;
    const std::int32_t pages = memory_.params.num_pages / halves;
    const StageParams params{memory_.params,
                             first,
                             std::min(heads_, params_.num_kv_heads - first),
                             first / heads_ % halves * pages,
                             pages,
                             part};
    if (part.first == 0) {
      const std::int64_t words =
          std::int64_t{params.staging.batch} * params.num_heads * params.staging.mark_words;
      if (Status status = launch("run_prefill", list_blocks_kernel<kStagingThreads>,
                                 grid_for(words, kStagingThreads / 32), dim3(kStagingThreads),
                                 device_, stream_, params);
          !status.ok())
        return status;
    }
    return launch("run_prefill", stage_blocks_kernel<kStageThreads>, shape, stream_, params);
  }

  StagingMemory memory_;
  PrefillParams<Stored> params_;
  Device device_;
  Stream stream_;
  std::int32_t heads_ = 1;  ///< that are staged together
  bool copies_beside_ = false;
  StagedKernels kernels_;  ///< beside which copies run
};

}  // namespace hip_attn::cuda
