/// Stage "scan" on the GPU: chunks of keys descend on tensor cores, eight to a warp.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/queries.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"

namespace hip_attn::cuda {

/// Binary descent (docs/algorithm.md, "Scoring a chunk") of eight chunks, one per quad of lanes:
/// the key of the left half is a row of the upper half of a tile, that of the right half the same
/// row of the lower half, so that a quad decides with two shuffles.
///
/// The four lanes of a quad look up the four keys that the next level can ask for, the left half's
/// two first, while the keys of a level are on their way. So a level costs one round trip to
/// memory, and from its scores to the copies of the next level there is little more to do than to
/// say which lanes' rows are wanted.
template <typename Traits>
class Descent {
 public:
  using Stored = StoredOf<Traits>;

  std::int32_t first = 0;  ///< number of the first of the eight chunks
  bool live = false;       ///< of the whole warp
  bool asked = false;      ///< the keys of a level are on their way

  /// The top of chunk [l, r); l == r: this quad has none.
  __device__ void start(const KvRows<Stored>& kv, std::int32_t l, std::int32_t r) {
    l_ = l;
    r_ = r;
    best_ = -INFINITY;
    live = true;
    asked = false;
    to_right_ = false;
    look_up(kv, l, r, lane() % 2 == 0 ? 0 : 1);  // one key: the left
  }

  /// Once the pages that were looked up are there: what the next level can ask for. `any` is a key
  /// that exists.
  __device__ void resolve(const KvRows<Stored>& kv, const Stored* any) {
    const RowSlot slot = kv.pages.slot(position_, page_);
    const bool valid = slot.page >= 0;
    row_ = valid ? kv.keys.row(slot) : any;
    valid_ = __ballot_sync(kAll, valid);
  }

  /// Takes the scores of a level's keys in; -inf: every product was NaN.
  __device__ void turn(float left, float right) {
    if (!(has_ & 1u)) left = -INFINITY;
    if (!(has_ & 2u)) right = -INFINITY;
    best_ = fmaxf(best_, fmaxf(left, right));
    to_right_ = !(left >= right);
  }

  /// There is a level that can be asked for.
  __device__ bool has_next() const { return exists_ != 0; }

  /// Asks for its keys and looks up those of the level that follows. Returns the keys of this quad.
  __device__ std::uint32_t request(const KvRows<Stored>& kv, const SharedTile<Traits>& tile) {
    // Eight lanes copy the rows of two quads, which are theirs.
    const std::uint32_t turned = __ballot_sync(kAll, to_right_);
    const int upper = lane() / 8 * 8;
    const int lower = upper + 4;
    const int from[2] = {upper + static_cast<int>(turned >> upper & 1u) * 2,
                         lower + static_cast<int>(turned >> lower & 1u) * 2};
    tile.copy({{row_of(from[0]), row_of(from[1]), row_of(from[0] + 1), row_of(from[1] + 1)}});

    const int own = lane() / 4 * 4 + (to_right_ ? 2 : 0);
    has_ = valid_ >> own;
    const std::uint32_t keys_read = __popc(exists_ >> own & 3u);
    if (asked) {
      const std::int32_t m = middle(l_, r_);
      if (to_right_) {
        l_ = m;
      } else {
        r_ = m;
      }
    }
    asked = true;
    const std::int32_t m = middle(l_, r_);
    const bool of_right = lane() % 4 >= 2;
    look_up(kv, of_right ? m : l_, of_right ? r_ : m, 1);
    return keys_read;
  }

  __device__ float best() const { return best_; }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static std::int32_t middle(std::int32_t l, std::int32_t r) { return l + (r - l) / 2; }

  /// Even lanes the centre of the left half of [l, r), odd lanes that of the right half, where
  /// there are more than `least` keys.
  __device__ void look_up(const KvRows<Stored>& kv, std::int32_t l, std::int32_t r,
                          std::int32_t least) {
    const std::int32_t m = middle(l, r);
    position_ = lane() % 2 == 0 ? middle(l, m) : middle(m, r);
    const bool exists = r - l > least;
    page_ = kv.pages.page_where(position_, exists);
    exists_ = __ballot_sync(kAll, exists);
  }

  __device__ const Stored* row_of(int lane) const {
    return reinterpret_cast<const Stored*>(
        __shfl_sync(kAll, reinterpret_cast<unsigned long long>(row_), lane));
  }

  std::int32_t l_ = 0;
  std::int32_t r_ = 0;
  float best_ = 0.f;
  bool to_right_ = false;
  std::uint32_t has_ = 0;  ///< bit 0: the left key of the level on its way exists, 1: the right key
  // What the next level can ask for: this lane's key, and bits of all lanes
  std::int32_t position_ = 0;
  std::int32_t page_ = -1;
  const Stored* row_ = nullptr;
  std::uint32_t exists_ = 0;
  std::uint32_t valid_ = 0;  ///< and has a page
};

/// Scores the chunks of one stage with one of `num_warps` warps, up to two groups of eight chunks
/// on the way at once.
template <typename Traits>
struct DecodeScan {
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  static constexpr int kHeadDim = Traits::kHeadDim;

  const KvRows<Stored>& kv;
  const Stored* any;       ///< an address of a key
  const Element* queries;  ///< pooled rows in shared memory
  int query_tiles;         ///< of kRowsPerTile rows
  ChunkList chunks;
  std::int32_t end;  ///< bounds the last chunk
  float* scores;     ///< written, one per chunk; -inf up to the next multiple of 16
  int warp;          ///< of num_warps
  int num_warps;

  /// Returns the keys that this thread's quad read (meaningful in lanes that are multiples of 4).
  /// second_memory is null where there is room for one tile only.
  __device__ std::uint32_t descend(std::byte* memory, std::byte* second_memory) const {
    const Tile tiles[2] = {Tile(memory), Tile(second_memory ? second_memory : memory)};
    const typename Tile::Queries first_queries(queries, kQueryPitch<kHeadDim>);
    std::uint32_t keys_read = 0;
    std::int32_t next = warp * 8;
    Descent<Traits> groups[2];
    const auto start_next = [&](Descent<Traits>& group) {
      if (next >= chunks.count) return;
      start(group, next);
      next += num_warps * 8;
    };
    start_next(groups[0]);
    if (second_memory) start_next(groups[1]);
#pragma unroll 1
    while (groups[0].live || groups[1].live) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        auto& group = groups[i];
        if (group.live && !advance(group, tiles[i], first_queries, keys_read)) {
          if (lane() % 4 == 0) scores[group.first + lane() / 4] = group.best();
          group.live = false;
          start_next(group);
        }
        commit_copies();  // an empty group, too: wait_for_groups<1> counts on one from each
      }
    }
    return keys_read;
  }

  /// The rule `centre`: one key a chunk, sixteen chunks to a warp.
  __device__ std::uint32_t centres(std::byte* memory) const {
    const Tile tile(memory);
    const typename Tile::Queries first_queries(queries, kQueryPitch<kHeadDim>);
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t first = warp * 16; first < chunks.count; first += num_warps * 16) {
      const std::int32_t upper_chunk = first + lane() / 4;
      const std::int32_t lower_chunk = upper_chunk + 8;
      const Stored* const upper_row = centre_row(upper_chunk);
      const Stored* const lower_row = centre_row(lower_chunk);
      const int from = lane() / 8 * 8;
      tile.copy({{row_of(upper_row, from), row_of(upper_row, from + 4), row_of(lower_row, from),
                  row_of(lower_row, from + 4)}});
      wait_for_copies();
      __syncwarp();
      float upper;
      float lower;
      score(tile, first_queries, upper, lower);
      if (lane() % 4 == 0) {
        scores[upper_chunk] = upper_row ? upper : -INFINITY;
        scores[lower_chunk] = lower_row ? lower : -INFINITY;
      }
      keys_read += (upper_chunk < chunks.count) + (lower_chunk < chunks.count);
      __syncwarp();  // all have read what the next keys overwrite
    }
    return keys_read;
  }

 private:
  using Tile = SharedTile<Traits>;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ void start(Descent<Traits>& descent, std::int32_t first) const {
    descent.first = first;
    const std::int32_t chunk = first + lane() / 4;
    const std::int32_t l = chunk < chunks.count ? chunks.start(chunk) : 0;
    const std::int32_t r = chunk < chunks.count ? min(l + chunks.chunk_size, end) : 0;
    descent.start(kv, l, r);
  }

  /// Takes the scores of a level in and asks for the next; false: there is none.
  __device__ bool advance(Descent<Traits>& group, const Tile& tile,
                          const typename Tile::Queries& first_queries,
                          std::uint32_t& keys_read) const {
    group.resolve(kv, any);
    wait_for_groups<1>();
    __syncwarp();
    if (group.asked) {
      float left;
      float right;
      score(tile, first_queries, left, right);
      group.turn(left, right);
    }
    if (!group.has_next()) return false;
    __syncwarp();  // all have read what the next level's keys overwrite
    keys_read += group.request(kv, tile);
    return true;
  }

  __device__ const Stored* centre_row(std::int32_t chunk) const {
    if (chunk >= chunks.count) return nullptr;
    const std::int32_t start = chunks.start(chunk);
    const RowSlot slot = kv.pages.slot(start + (min(start + chunks.chunk_size, end) - start) / 2);
    return slot.page < 0 ? nullptr : kv.keys.row(slot);
  }

  /// The row of another lane, some row where it has none.
  __device__ const Stored* row_of(const Stored* row, int lane) const {
    return reinterpret_cast<const Stored*>(
        __shfl_sync(0xffffffffu, reinterpret_cast<unsigned long long>(row ? row : any), lane));
  }

  /// a(j) of the quad's two keys, -inf where every product is NaN.
  __device__ void score(const Tile& tile, const typename Tile::Queries& first_queries, float& upper,
                        float& lower) const {
    float c[4];
    tile.multiply(first_queries, c);
    upper = fmaxf(fmaxf(c[0], c[1]), -INFINITY);  // fmaxf passes NaN over
    lower = fmaxf(fmaxf(c[2], c[3]), -INFINITY);
#pragma unroll 1
    for (int i = 1; i < query_tiles; ++i) {
      const typename Tile::Queries more(queries + i * kRowsPerTile * kQueryPitch<kHeadDim>,
                                        kQueryPitch<kHeadDim>);
      tile.multiply(more, c);
      upper = fmaxf(upper, fmaxf(c[0], c[1]));
      lower = fmaxf(lower, fmaxf(c[2], c[3]));
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
      upper = fmaxf(upper, __shfl_xor_sync(0xffffffffu, upper, lanes));
      lower = fmaxf(lower, __shfl_xor_sync(0xffffffffu, lower, lanes));
    }
  }
};

}  // namespace hip_attn::cuda
