/// Stage "scan" on the GPU: chunks of keys descend on tensor cores, eight to a warp.
#pragma once

#include <cstdint>

#include "hip_attn/cuda/decode/queries.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/rows/paged_rows.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"
#include "hip_attn/cuda/search/chunk_list.cuh"
#include "hip_attn/cuda/search/rules.cuh"

namespace hip_attn::cuda {

/// Binary descent (docs/guide/algorithm.md, "Scoring a chunk") of eight chunks, one per quad of
/// lanes: the key of the left half is a row of the upper half of a tile, that of the right half the
/// same row of the lower half, so that a quad decides with two shuffles.
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

  /// The top of a chunk; an empty one: this quad has none.
  __device__ void start(const KvRows<Stored>& kv, const ChunkRange& chunk) {
    chunk_ = chunk;
    best_ = -INFINITY;
    live = true;
    asked = false;
    to_right_ = false;
    look_up(kv, chunk, lane() % 2 == 0 ? 0 : 1);  // one key: the left
  }

  /// Once the pages that were looked up are there: what the next level can ask for. `fallback` is a
  /// row that exists.
  __device__ void resolve(const KvRows<Stored>& kv, const Stored* fallback) {
    const RowSlot slot = kv.pages.slot(position_, page_);
    const bool valid = slot.page >= 0;
    row_ = valid ? kv.keys.row(slot) : fallback;
    valid_ = __ballot_sync(kAll, valid);
  }

  /// Takes the scores of a level's keys in; -inf: every product was NaN.
  __device__ void turn(float left, float right) {
    if (!has_left()) left = -INFINITY;
    if (!has_right()) right = -INFINITY;
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
    if (asked) chunk_ = chunk_.half(to_right_);
    asked = true;
    look_up(kv, chunk_.half(lane() % 4 >= 2), 1);
    return keys_read;
  }

  __device__ float best() const { return best_; }

  /// Of the level on its way: the key of the left half exists, and that of the right half.
  __device__ bool has_left() const { return has_ & 1u; }
  __device__ bool has_right() const { return has_ & 2u; }

 private:
  static constexpr std::uint32_t kAll = 0xffffffffu;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  /// Even lanes the key in the left half of a chunk, odd lanes that in the right half, where there
  /// are more than `least` keys.
  __device__ void look_up(const KvRows<Stored>& kv, const ChunkRange& chunk, std::int32_t least) {
    position_ = lane() % 2 == 0 ? chunk.left() : chunk.right();
    const bool exists = chunk.size() > least;
    page_ = kv.pages.page_where(position_, exists);
    exists_ = __ballot_sync(kAll, exists);
  }

  __device__ const Stored* row_of(int lane) const {
    return reinterpret_cast<const Stored*>(
        __shfl_sync(kAll, reinterpret_cast<unsigned long long>(row_), lane));
  }

  ChunkRange chunk_{};
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

/// Of a descent whose rows' logits nobody asks for. An observer is told of the chunks that this
/// lane's quad begins and, level by level, of their keys' products with two rows as
/// DecodeScan::each_tile_of_rows hands them out.
struct NoObserver {
  __device__ static void begin(std::int32_t /*chunk*/) {}
  __device__ static void observe(std::int32_t /*chunk*/, bool /*has_left*/, bool /*has_right*/,
                                 const float (&)[4], int /*row*/) {}
};

/// Scores the chunks of one stage by the largest product of any row, with one of `num_warps` warps,
/// up to two groups of eight chunks on the way at once.
template <typename Traits, typename Observer = NoObserver>
struct DecodeScan {
  using Element = typename Traits::Element;
  using Stored = StoredOf<Traits>;
  using Rules = typename Traits::Rules;
  static constexpr int kHeadDim = Traits::kHeadDim;

  const KvRows<Stored>& kv;
  const Stored* fallback_row;  ///< a row that exists, read where there is none
  const Element* queries;      ///< pooled rows in shared memory
  int num_rows;
  ChunkList chunks;
  std::int32_t end;  ///< bounds the last chunk
  int warp;          ///< of num_warps
  int num_warps;
  Observer observer{};

  /// Writes a score for each chunk, and -inf up to the next multiple of 16. second_memory is null
  /// where there is room for one tile only. Returns the keys that this thread's quad read
  /// (meaningful in lanes that are multiples of 4).
  __device__ std::uint32_t run(int rule, float* scores, std::byte* memory,
                               std::byte* second_memory) const {
    return Rules::visit(rule, [&]<typename Rule>() {
      if constexpr (Rule::kDescends) {
        return descend(scores, memory, second_memory);
      } else if constexpr (!kReadsFixedKeys<Rule>) {
        return 0u;
      } else {
        return read_keys<Rule>(scores, memory);
      }
    });
  }

 private:
  using Tile = SharedTile<Traits>;

  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

 public:
  __device__ std::uint32_t descend(float* scores, std::byte* memory,
                                   std::byte* second_memory) const {
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

  /// Sixteen keys in a tile, one of each chunk: this lane has products of two of them.
  struct Sixteen {
    const typename Tile::Queries& first_queries;
    std::int32_t upper_chunk;
    std::int32_t lower_chunk;
    bool upper_exists;
    bool lower_exists;
    int number;  ///< of the rule's keys
  };

  /// A rule without descent: visit(tile, keys) for each sixteen chunks of this warp and each of the
  /// rule's keys.
  template <typename Rule, typename Visit>
  __device__ std::uint32_t for_each_16(std::byte* memory, Visit&& visit) const {
    const Tile tile(memory);
    const typename Tile::Queries first_queries(queries, kQueryPitch<kHeadDim>);
    std::uint32_t keys_read = 0;
#pragma unroll 1
    for (std::int32_t first = warp * 16; first < chunks.count; first += num_warps * 16) {
#pragma unroll 1
      for (int i = 0; i < Rule::kKeys; ++i) {
        const std::int32_t upper_chunk = first + lane() / 4;
        const std::int32_t lower_chunk = upper_chunk + 8;
        const Stored* const upper_row = key_row<Rule>(upper_chunk, i);
        const Stored* const lower_row = key_row<Rule>(lower_chunk, i);
        const int from = lane() / 8 * 8;
        tile.copy({{row_of(upper_row, from), row_of(upper_row, from + 4), row_of(lower_row, from),
                    row_of(lower_row, from + 4)}});
        wait_for_copies();
        __syncwarp();
        visit(tile, Sixteen{first_queries, upper_chunk, lower_chunk, upper_row != nullptr,
                            lower_row != nullptr, i});
        keys_read += (upper_chunk < chunks.count) + (lower_chunk < chunks.count);
        __syncwarp();  // all have read what the next keys overwrite
      }
    }
    return keys_read;
  }

  template <typename Rule>
  __device__ std::uint32_t read_keys(float* scores, std::byte* memory) const {
    return for_each_16<Rule>(memory, [&](const Tile& tile, const Sixteen& keys) {
      float upper;
      float lower;
      score(tile, keys.first_queries, upper, lower, [](const float(&)[4], int) {});
      if (lane() % 4 != 0) return;
      put(scores + keys.upper_chunk, keys.upper_exists ? upper : -INFINITY, keys.number);
      put(scores + keys.lower_chunk, keys.lower_exists ? lower : -INFINITY, keys.number);
    });
  }
  /// The score of a chunk by its key with this number and those before.
  __device__ static void put(float* score, float value, int number) {
    *score = number == 0 ? value : fmaxf(*score, value);
  }

  __device__ void start(Descent<Traits>& descent, std::int32_t first) const {
    descent.first = first;
    const ChunkRange chunk = range_of(first + lane() / 4);
    descent.start(kv, chunk);
    observer.begin(first + lane() / 4);
  }

  __device__ ChunkRange range_of(std::int32_t chunk) const {
    const std::int32_t l = chunk < chunks.count ? chunks.start(chunk) : 0;
    return {l, chunk < chunks.count ? min(l + chunks.chunk_size(), end) : 0};
  }

  /// Takes the scores of a level in and asks for the next; false: there is none.
  __device__ bool advance(Descent<Traits>& group, const Tile& tile,
                          const typename Tile::Queries& first_queries,
                          std::uint32_t& keys_read) const {
    group.resolve(kv, fallback_row);
    wait_for_groups<1>();
    __syncwarp();
    if (group.asked) {
      float left;
      float right;
      score(tile, first_queries, left, right, [&](const float(&c)[4], int row) {
        observer.observe(group.first + lane() / 4, group.has_left(), group.has_right(), c, row);
      });
      group.turn(left, right);
    }
    if (!group.has_next()) return false;
    __syncwarp();  // all have read what the next level's keys overwrite
    keys_read += group.request(kv, tile);
    return true;
  }

  /// Key i of a chunk; null: no chunk, or no page.
  template <typename Rule>
  __device__ const Stored* key_row(std::int32_t chunk, int i) const {
    if (chunk >= chunks.count) return nullptr;
    const RowSlot slot = kv.pages.slot(Rule::position(range_of(chunk), i));
    return slot.page < 0 ? nullptr : kv.keys.row(slot);
  }

  /// The row of another lane, some row where it has none.
  __device__ const Stored* row_of(const Stored* row, int lane) const {
    return reinterpret_cast<const Stored*>(__shfl_sync(
        0xffffffffu, reinterpret_cast<unsigned long long>(row ? row : fallback_row), lane));
  }

  /// visit(c, row) with the products of a tile of keys and all rows, eight at a time: c[0] and c[1]
  /// are the quad's upper key with rows `row` and row + 1, c[2] and c[3] its lower key.
  template <typename Visit>
  __device__ void each_tile_of_rows(const Tile& tile, const typename Tile::Queries& first_queries,
                                    Visit&& visit) const {
    const int row = lane() % 4 * 2;
    float c[4];
    tile.multiply(first_queries, c);
    visit(c, row);
#pragma unroll 1
    for (int first = kRowsPerTile; first < num_rows; first += kRowsPerTile) {
      const typename Tile::Queries more(queries + first * kQueryPitch<kHeadDim>,
                                        kQueryPitch<kHeadDim>);
      tile.multiply(more, c);
      visit(c, first + row);
    }
  }

  /// Of the quad's two keys; -inf where every product is NaN. on_rows: as each_tile_of_rows visits.
  template <typename OnRows>
  __device__ void score(const Tile& tile, const typename Tile::Queries& first_queries, float& upper,
                        float& lower, OnRows&& on_rows) const {
    upper = lower = -INFINITY;
    each_tile_of_rows(tile, first_queries, [&](const float(&c)[4], int row) {
      upper = fmaxf(upper, fmaxf(c[0], c[1]));  // fmaxf passes NaN over
      lower = fmaxf(lower, fmaxf(c[2], c[3]));
      on_rows(c, row);
    });
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) {
      upper = fmaxf(upper, __shfl_xor_sync(0xffffffffu, upper, lanes));
      lower = fmaxf(lower, __shfl_xor_sync(0xffffffffu, lower, lanes));
    }
  }
};

}  // namespace hip_attn::cuda
