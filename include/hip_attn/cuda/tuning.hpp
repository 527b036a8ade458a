/// The tile constants of the kernels: every number that was chosen by measuring, and one function
/// that chooses those which depend on the head dim; decode has none. 16-bit elements; where compute
/// capabilities differ they have kernels, and so members, of their own. docs/lab has the
/// measurements.
#pragma once

namespace hip_attn::cuda {

struct DecodeTuning {
  /// Of a thread block, which fills a multiprocessor's shared memory. 8 warps with four scores each
  /// to select from take 0.5 us a stage more than 16 with two (H200).
  int threads = 512;
  /// The last of its warps look ahead while the upstream kernel runs (KeysAhead): a reused step
  /// takes 8.50 us with 4, 8.77 with 8, 8.68 with 2 (docs/lab/decode.md).
  int ahead_warps = 4;
  /// Surviving chunks up to this number stay in shared memory, more go through the workspace.
  int shared_chunks = 2048;
  /// Thread blocks of a team at most: what a cluster can have.
  int max_team_size = 16;
  /// Tiles of keys and values that a warp has on the way at most.
  int slots_per_warp = 2;
};

struct SearchTuning {
  /// Eight warps with 8 KB of keys in flight each (D = 128).
  int threads = 256;
  /// One selects or waits for keys while the other multiplies; above 128 the registers of one fill
  /// the multiprocessor.
  int blocks_per_multiprocessor = 2;
};

/// Attention of prefill for compute capability 8.0 and newer.
struct Sm80AttendTuning {
  int warps = 4;  ///< with 16 query rows each
  int keys = 64;  ///< of a tile
  /// Tiles of keys and values in flight; one where two would not fit the 99 KB of a thread block on
  /// compute capability 8.6.
  int buffers = 2;
};

/// Attention of prefill for compute capability 9.0, by so many consumer warpgroups with so many
/// tiles of 64 query rows each.
struct Sm90AttendTuning {
  /// One consumer warpgroup leaves the tensor cores idle while it computes probabilities: then two
  /// thread blocks share a multiprocessor.
  int blocks_per_multiprocessor = 1;
  int shared_kb = 224;  ///< of a thread block, for queries and the ring of tiles
  int most_slots = 8;   ///< tiles of the ring: four of keys and four of values
  int units_ahead = 2;  ///< units whose description the producer writes ahead
  /// Threads start with the same share of registers, 168 of three warpgroups or 128 of two times
  /// two. Where outputs (head_dim / 2 * tiles), logits (32) and probabilities (16) need more, the
  /// producers give theirs up.
  bool shift_registers = false;
  int consumer_registers = 216;
  int producer_registers = 72;
};

struct KernelTuning {
  SearchTuning search;
  Sm80AttendTuning attend_sm80;
  /// [consumer warpgroups - 1][tiles - 1]
  Sm90AttendTuning attend_sm90[2][2];
};

constexpr KernelTuning kernel_tuning(int head_dim) {
  KernelTuning tuning;
  if (head_dim > 128) {
    tuning.search.blocks_per_multiprocessor = 1;
    tuning.attend_sm80.buffers = 1;
  }
  for (int warpgroups = 1; warpgroups <= 2; ++warpgroups) {
    for (int tiles = 1; tiles <= 2; ++tiles) {
      Sm90AttendTuning& attend = tuning.attend_sm90[warpgroups - 1][tiles - 1];
      if (warpgroups == 1 && head_dim <= 128) {
        attend.blocks_per_multiprocessor = 2;
        attend.shared_kb = 112;
        attend.shift_registers = head_dim > 64;
      }
      if (warpgroups == 1) attend.consumer_registers = 184;
      if (warpgroups == 2) attend.shift_registers = head_dim * tiles > 128;
    }
  }
  return tuning;
}

}  // namespace hip_attn::cuda
