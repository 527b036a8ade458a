/// Landmarks of a Problem in a device's memory: pages, tables, guards, and what they must hold by
/// the definition (docs/guide/algorithm.md, "Landmarks"), summed by loops of the tests' own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device_buffer.hpp"
#include "hip_attn/kv.hpp"
#include "memory.hpp"
#include "problem.hpp"
#include "values.hpp"

namespace hip_attn::test {

struct LandmarkLayout {
  std::vector<std::int64_t> chunk_sizes = {64};  ///< ascending
  float spread = 0.5f;
  std::int64_t landmarks_per_page = 5;
  bool by_head = true;           ///< [Hk, pages, ..], else [pages, .., Hk, ..]
  bool tables = true;            ///< block tables of their own, else request b owns page b
  std::uint64_t page_seed = 1;   ///< which page a request's n-th page is
  std::int64_t row_padding = 0;  ///< unused elements after every row
};

/// hi and lo, one behind the other: a landmark of one KV head.
template <Element T>
using LandmarkRow = std::vector<T>;

/// The landmark of a chunk whose key i is key(i), straight from the definition.
template <Element T, typename Key>
LandmarkRow<T> landmark_of_keys(std::int64_t chunk_size, std::int64_t head_dim, float spread,
                                const Key& key) {
  LandmarkRow<T> row(2 * head_dim);
  for (std::int64_t d = 0; d < head_dim; ++d) {
    float sum = 0.f;
    float max = -kInfinity;
    float min = kInfinity;
    bool is_nan = false;
    for (std::int64_t i = 0; i < chunk_size; ++i) {
      const float x = to_float(key(i)[d]);
      is_nan |= std::isnan(x);
      sum += x;
      max = std::max(max, x);
      min = std::min(min, x);
    }
    const float mean = sum / static_cast<float>(chunk_size);
    const auto towards = [&](float extreme) {
      const float value = std::fma(spread, extreme - mean, mean);
      return from_float<T>(is_nan || std::isnan(value) ? kNaN : value);
    };
    row[d] = towards(max);
    row[head_dim + d] = towards(min);
  }
  return row;
}

/// The landmark of a chunk of these children.
template <Element T>
LandmarkRow<T> landmark_of_children(const LandmarkRow<T>* children, std::int64_t count) {
  LandmarkRow<T> row = children[0];
  for (std::int64_t child = 1; child < count; ++child) {
    for (std::size_t d = 0; d < row.size(); ++d) {
      const float sign = d < row.size() / 2 ? 1.f : -1.f;
      const float value = to_float(children[child][d]);
      if (std::isnan(value) || sign * value > sign * to_float(row[d])) row[d] = children[child][d];
    }
  }
  return row;
}

/// [level][chunk] of one request and KV head: all complete chunks.
template <TestedTypes P>
std::vector<std::vector<LandmarkRow<CacheType<P>>>> reference_landmarks(
    const Request<P>& request, std::int64_t head, const std::vector<std::int64_t>& chunk_sizes,
    float spread) {
  std::vector<std::vector<LandmarkRow<CacheType<P>>>> levels;
  for (std::size_t i = 0; i < chunk_sizes.size(); ++i) {
    const std::int64_t size = chunk_sizes[i];
    std::vector<LandmarkRow<CacheType<P>>> level;
    for (std::int64_t n = 0; (n + 1) * size <= request.seq_len; ++n) {
      if (i == 0) {
        level.push_back(landmark_of_keys<CacheType<P>>(
            size, request.heads.head_dim, spread,
            [&](std::int64_t key) { return request.key(n * size + key, head); }));
      } else {
        const std::int64_t children = size / chunk_sizes[i - 1];
        level.push_back(landmark_of_children<CacheType<P>>(&levels[i - 1][n * children], children));
      }
    }
    levels.push_back(std::move(level));
  }
  return levels;
}

/// Owns the levels. Whatever is no landmark of a complete chunk is NaN until something writes it;
/// entries of a table behind a request's last landmark are no pages.
template <TestedTypes P>
class LandmarkMemory {
  using T = CacheType<P>;

 public:
  /// Tables as `layout` says.
  LandmarkMemory(Device device, const Problem<P>& problem, const LandmarkLayout& layout)
      : LandmarkMemory(device, problem, layout, nullptr) {}

  /// One table for keys and landmarks: pages of kv hold a multiple of every chunk size.
  static LandmarkMemory with_tables_of(const PagedKv<T>& kv, Device device,
                                       const Problem<P>& problem, const LandmarkLayout& layout) {
    return LandmarkMemory(device, problem, layout, &kv);
  }

  [[nodiscard]] Landmarks<T> view() const {
    Landmarks<T> landmarks;
    landmarks.num_levels = static_cast<int>(levels_.size());
    landmarks.spread = layout_.spread;
    for (std::size_t i = 0; i < levels_.size(); ++i) landmarks.levels[i] = levels_[i].view;
    return landmarks;
  }

  /// update_landmarks of positions [from[b], to[b]) of each request b.
  Status update(const PagedKv<T>& kv, const std::vector<std::int32_t>& from,
                const std::vector<std::int32_t>& to, std::int64_t max_tokens = 0) {
    const DeviceBuffer<std::int32_t> from_memory(device_, from);
    const DeviceBuffer<std::int32_t> to_memory(device_, to);
    UpdateLandmarksArgs<T> args;
    args.kv = kv;
    args.from = {from_memory.data(), {from_memory.size()}};
    args.to = {to_memory.data(), {to_memory.size()}};
    args.landmarks = view();
    args.max_tokens = max_tokens;
    const Status status = update_landmarks<T>(device_, args);
    static_cast<void>(to_memory.read());  // waits, so that the lengths outlive the kernel
    return status;
  }
  /// The same of all keys of the problem.
  Status update(const PagedKv<T>& kv, const Problem<P>& problem) {
    std::vector<std::int32_t> to;
    for (const auto& request : problem.requests) {
      to.push_back(static_cast<std::int32_t>(request.seq_len));
    }
    return update(kv, std::vector<std::int32_t>(to.size(), 0), to);
  }

  /// Writes the landmarks of all complete chunks, without an operator.
  void write_reference(const Problem<P>& problem) { write(expected(problem, read())); }

  /// Bits of every level, padding and unused pages included.
  using Contents = std::vector<std::vector<T>>;
  [[nodiscard]] Contents read() const {
    Contents contents;
    for (const Level& level : levels_) contents.push_back(level.elements->read());
    return contents;
  }
  void write(const Contents& contents) {
    for (std::size_t i = 0; i < levels_.size(); ++i) levels_[i].elements->write(contents[i]);
  }

  /// `before` with the landmarks of the complete chunks of the problem that meet [from[b], to[b]).
  [[nodiscard]] Contents expected(const Problem<P>& problem, Contents before,
                                  const std::vector<std::int32_t>& from,
                                  const std::vector<std::int32_t>& to) const {
    const std::int64_t head_dim = problem.heads.head_dim;
    for (std::int64_t b = 0; b < problem.batch(); ++b) {
      for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
        const auto reference =
            reference_landmarks(problem.requests[b], head, layout_.chunk_sizes, layout_.spread);
        for (std::size_t i = 0; i < levels_.size(); ++i) {
          const std::int64_t size = layout_.chunk_sizes[i];
          for (std::int64_t n = from[b] / size; from[b] < to[b] && (n + 1) * size <= to[b]; ++n) {
            T* const hi = before[i].data() + levels_[i].offset(b, head, n);
            const LandmarkRow<T>& row = reference[i][n];
            std::copy_n(row.begin(), head_dim, hi);
            std::copy_n(row.begin() + head_dim, head_dim, hi + levels_[i].view.rows.strides[3]);
          }
        }
      }
    }
    return before;
  }
  [[nodiscard]] Contents expected(const Problem<P>& problem, Contents before) const {
    std::vector<std::int32_t> to;
    for (const auto& request : problem.requests) {
      to.push_back(static_cast<std::int32_t>(request.seq_len));
    }
    return expected(problem, std::move(before), std::vector<std::int32_t>(to.size(), 0), to);
  }

  /// The invariant: every complete chunk of the problem has its landmark, bit for bit. Empty when
  /// it holds, else where it does not.
  [[nodiscard]] std::string difference(const Problem<P>& problem) const {
    const Contents found = read();
    return difference(found, expected(problem, found));
  }
  /// The same of memory that must be `wanted` as a whole.
  [[nodiscard]] std::string difference(const Contents& wanted) const {
    return difference(read(), wanted);
  }

  [[nodiscard]] bool guards_intact() const {
    return std::all_of(levels_.begin(), levels_.end(), [](const Level& level) {
      return level.elements->guards_intact() && (!level.table || level.table->guards_intact());
    });
  }

 private:
  struct Level {
    LandmarkLevel<T> view;
    std::vector<std::int32_t> host_table;  ///< [B, columns]; empty: request b owns page b
    std::int64_t columns = 1;
    std::unique_ptr<DeviceBuffer<T>> elements;
    std::unique_ptr<DeviceBuffer<std::int32_t>> table;  ///< null: none, or that of the keys

    /// Of hi in `elements`.
    [[nodiscard]] std::int64_t offset(std::int64_t b, std::int64_t head, std::int64_t n) const {
      const auto& strides = view.rows.strides;
      const std::int64_t per_page = view.landmarks_per_page();
      const std::int64_t page = host_table.empty() ? b : host_table[b * columns + n / per_page];
      return page * strides[0] + n % per_page * strides[1] + head * strides[2];
    }
  };

  LandmarkMemory(Device device, const Problem<P>& problem, const LandmarkLayout& layout,
                 const PagedKv<T>* kv)
      : device_(device), layout_(layout) {
    for (std::size_t i = 0; i < layout.chunk_sizes.size(); ++i) {
      levels_.push_back(kv ? level_of_keys(problem, layout.chunk_sizes[i], *kv)
                           : level_of_its_own(problem, layout.chunk_sizes[i], i));
    }
  }

  Level level_of_its_own(const Problem<P>& problem, std::int64_t chunk_size, std::uint64_t seed) {
    Level level;
    const std::int64_t most = problem.max_seq_len() / chunk_size;
    const std::int64_t per_page =
        layout_.tables ? layout_.landmarks_per_page : std::max<std::int64_t>(1, most);
    std::int64_t num_pages = std::max<std::int64_t>(1, problem.batch());
    if (layout_.tables) {
      const auto pages_of = [&](const Request<P>& request) {
        return (request.seq_len / chunk_size + per_page - 1) / per_page;
      };
      num_pages = 2;  // nobody's
      for (const auto& request : problem.requests) {
        num_pages += pages_of(request);
        level.columns = std::max(level.columns, pages_of(request) + 1);
      }
      std::vector<std::int32_t> order(num_pages);
      std::iota(order.begin(), order.end(), 0);
      Choices choices(layout_.page_seed + seed);
      for (std::int64_t i = num_pages - 1; i > 0; --i) {
        std::swap(order[i], order[choices.between(0, i)]);
      }
      level.host_table.assign(std::max<std::int64_t>(1, problem.batch()) * level.columns,
                              std::numeric_limits<std::int32_t>::min());
      std::int64_t next = 0;
      for (std::int64_t b = 0; b < problem.batch(); ++b) {
        for (std::int64_t n = 0; n < pages_of(problem.requests[b]); ++n) {
          level.host_table[b * level.columns + n] = order[next++];
        }
      }
      level.table = std::make_unique<DeviceBuffer<std::int32_t>>(device_, level.host_table);
      level.view.block_table =
          TensorView<const std::int32_t, 2>(level.table->data(), {problem.batch(), level.columns});
    }
    allocate(level, problem.heads, chunk_size, num_pages, per_page);
    return level;
  }

  Level level_of_keys(const Problem<P>& problem, std::int64_t chunk_size, const PagedKv<T>& kv) {
    Level level;
    if (kv.block_table) {
      level.view.block_table = kv.block_table;
      level.columns = kv.block_table->sizes[1];
      level.host_table.resize(problem.batch() * level.columns);
      for (std::int64_t b = 0; b < problem.batch(); ++b) {
        read_table(*kv.block_table, b, level.host_table.data() + b * level.columns);
      }
    }
    allocate(level, problem.heads, chunk_size, kv.pages.num_pages(),
             kv.pages.page_size() / chunk_size);
    return level;
  }

  void read_table(const TensorView<const std::int32_t, 2>& table, std::int64_t b,
                  std::int32_t* to) const {
    const std::int32_t* const row = table.data + b * table.strides[0];
    const std::size_t bytes = table.sizes[1] * sizeof(std::int32_t);
#if HIP_ATTN_HAS_CUDA
    if (device_.type == DeviceType::kCuda) {
      if (cudaMemcpy(to, row, bytes, cudaMemcpyDeviceToHost) != cudaSuccess) {
        throw std::runtime_error("a block table cannot be read");
      }
      return;
    }
#endif
    std::memcpy(to, row, bytes);
  }

  void allocate(Level& level, const Heads& heads, std::int64_t chunk_size, std::int64_t num_pages,
                std::int64_t per_page) {
    const std::int64_t row = heads.head_dim + layout_.row_padding;
    const std::int64_t landmark = 2 * row;
    const std::int64_t hk = heads.num_kv_heads;
    const std::array<std::int64_t, 5> strides =
        layout_.by_head ? std::array<std::int64_t, 5>{per_page * landmark, landmark,
                                                      num_pages * per_page * landmark, row, 1}
                        : std::array<std::int64_t, 5>{per_page * hk * landmark, hk * landmark,
                                                      landmark, row, 1};
    level.elements = std::make_unique<DeviceBuffer<T>>(
        device_, num_pages * per_page * hk * landmark, from_float<T>(kNaN));
    level.view.chunk_size = chunk_size;
    level.view.rows = {
        level.elements->data(), {num_pages, per_page, hk, 2, heads.head_dim}, strides};
  }

  [[nodiscard]] static std::string difference(const Contents& found, const Contents& wanted) {
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (std::size_t at = 0; at < found[i].size(); ++at) {
        if (std::memcmp(&found[i][at], &wanted[i][at], sizeof(T)) == 0) continue;
        return "level " + std::to_string(i) + ", element " + std::to_string(at) + " is " +
               std::to_string(to_float(found[i][at])) + "; it must be " +
               std::to_string(to_float(wanted[i][at]));
      }
    }
    return {};
  }

  Device device_;
  LandmarkLayout layout_;
  std::vector<Level> levels_;
};

}  // namespace hip_attn::test
