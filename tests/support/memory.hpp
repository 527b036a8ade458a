/// A Problem laid out in a device's memory: pages, block table, lengths, rows. None of the choices
/// here may change any result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "device_buffer.hpp"
#include "hip_attn/attention.hpp"
#include "problem.hpp"
#include "values.hpp"

namespace hip_attn::test {

enum class KvOrder { kNhd, kHnd, kContiguous };

struct MemoryLayout {
  KvOrder order = KvOrder::kNhd;
  std::int64_t page_size = 16;    ///< contiguous KV takes max_seq_len instead
  std::uint64_t page_seed = 1;    ///< which page a request's n-th page is
  std::int64_t row_padding = 0;   ///< unused elements after every row of q, out, k and v
  bool interleave_kv = false;     ///< K and V as halves of one tensor of pages
  bool other_order_of_v = false;  ///< NHD keys with HND values, or the reverse
  std::int64_t request_rows = 0;  ///< q is [B, Hq, request_rows, D]; 0: it is [total_q, Hq, D]
};

/// Strides of pages [.., tokens, heads, D], or [.., heads, tokens, D] for HND, of rows `row` apart.
inline std::array<std::int64_t, 4> page_strides(bool hnd, std::int64_t page_size,
                                                std::int64_t num_kv_heads, std::int64_t row) {
  const std::int64_t page = page_size * num_kv_heads * row;
  return hnd ? std::array<std::int64_t, 4>{page, row, page_size * row, 1}
             : std::array<std::int64_t, 4>{page, num_kv_heads * row, row, 1};
}

/// Keys and values of a problem in pages. Everything that is no key or value of the problem, such
/// as unused pages, the rest of each last page and row padding, is NaN; entries of the block table
/// behind a request's last page are no pages.
template <TestedTypes P>
class KvMemory {
  using T = CacheType<P>;

 public:
  KvMemory(Device device, const Problem<P>& problem, const MemoryLayout& layout)
      : contiguous_(layout.order == KvOrder::kContiguous),
        page_size_(contiguous_ ? std::max<std::int64_t>(1, problem.max_seq_len())
                               : layout.page_size) {
    make_block_table(problem, layout);
    const Heads& heads = problem.heads;
    const std::array<std::int64_t, 4> sizes{num_pages_, page_size_, heads.num_kv_heads,
                                            heads.head_dim};
    // K and V differ in their strides wherever rows are padded.
    const bool hnd = layout.order == KvOrder::kHnd;
    const std::int64_t k_row = heads.head_dim + layout.row_padding;
    const std::int64_t v_row = k_row + (layout.interleave_kv ? 0 : layout.row_padding);
    TensorView<T, 4> k(nullptr, sizes, page_strides(hnd, page_size_, heads.num_kv_heads, k_row));
    TensorView<T, 4> v(
        nullptr, sizes,
        page_strides(hnd != layout.other_order_of_v, page_size_, heads.num_kv_heads, v_row));
    const std::int64_t v_offset = layout.interleave_kv ? k.strides[0] : num_pages_ * k.strides[0];
    std::vector<T> host(num_pages_ * (k.strides[0] + v.strides[0]), from_float<T>(kNaN));
    if (layout.interleave_kv) k.strides[0] = v.strides[0] = k.strides[0] + v.strides[0];
    k.data = host.data();
    v.data = host.data() + v_offset;
    fill(problem, k, v);

    elements_.emplace(device, host);
    table_.emplace(device, host_table_);
    k.data = elements_->data();
    v.data = elements_->data() + v_offset;
    pages_ = {k, v};
  }

  [[nodiscard]] const KvPages<T>& pages() const { return pages_; }
  [[nodiscard]] PagedKv<T> view() const {
    if (contiguous_) return {pages_, std::nullopt};
    return {pages_, TensorView<const std::int32_t, 2>(table_->data(), {batch_, columns_ - 1},
                                                      {columns_, 1})};
  }
  /// Of token t of request b: what append_kv calls its slot.
  [[nodiscard]] std::int64_t slot(std::int64_t b, std::int64_t t) const {
    return host_table_[b * columns_ + t / page_size_] * page_size_ + t % page_size_;
  }
  /// Everything between the guards.
  [[nodiscard]] std::vector<T> read() const { return elements_->read(); }
  [[nodiscard]] bool guards_intact() const {
    return elements_->guards_intact() && table_->guards_intact();
  }

 private:
  void make_block_table(const Problem<P>& problem, const MemoryLayout& layout) {
    batch_ = problem.batch();
    const auto pages_of = [&](const Request<P>& request) {
      return contiguous_ ? 1 : (request.seq_len + page_size_ - 1) / page_size_;
    };
    std::int64_t used = 0;
    for (const auto& request : problem.requests) {
      used += pages_of(request);
      columns_ = std::max(columns_, pages_of(request) + 2);  // one behind the last, one of stride
    }
    num_pages_ = contiguous_ ? std::max<std::int64_t>(1, batch_) : used + 3;

    std::vector<std::int32_t> order(num_pages_);
    std::iota(order.begin(), order.end(), 0);
    if (!contiguous_) {
      Choices choices(layout.page_seed);
      for (std::int64_t i = num_pages_ - 1; i > 0; --i) {
        std::swap(order[i], order[choices.between(0, i)]);
      }
    }
    host_table_.assign(std::max<std::int64_t>(1, batch_) * columns_,
                       std::numeric_limits<std::int32_t>::min());
    std::int64_t next = 0;
    for (std::int64_t b = 0; b < batch_; ++b) {
      for (std::int64_t n = 0; n < pages_of(problem.requests[b]); ++n) {
        host_table_[b * columns_ + n] = order[next++];
      }
    }
  }

  void fill(const Problem<P>& problem, const TensorView<T, 4>& k, const TensorView<T, 4>& v) const {
    for (std::int64_t b = 0; b < problem.batch(); ++b) {
      const Request<P>& request = problem.requests[b];
      for (std::int64_t t = 0; t < request.seq_len; ++t) {
        const std::int64_t page = host_table_[b * columns_ + t / page_size_];
        for (std::int64_t head = 0; head < problem.heads.num_kv_heads; ++head) {
          std::copy_n(request.key(t, head), problem.heads.head_dim,
                      &k(page, t % page_size_, head, 0));
          std::copy_n(request.value(t, head), problem.heads.head_dim,
                      &v(page, t % page_size_, head, 0));
        }
      }
    }
  }

  bool contiguous_;
  std::int64_t page_size_;
  std::int64_t num_pages_ = 0;
  std::int64_t batch_ = 0;
  std::int64_t columns_ = 2;
  std::vector<std::int32_t> host_table_;
  std::optional<DeviceBuffer<T>> elements_;
  std::optional<DeviceBuffer<std::int32_t>> table_;
  KvPages<T> pages_;
};

/// Query rows as [B, Hq, R, D], with NaN in the padding and behind the last row of a request.
template <Element T>
class BatchMemory {
 public:
  template <TestedTypes P>
  BatchMemory(Device device, const Problem<P>& problem, std::int64_t rows, std::int64_t row_padding)
      : heads_(problem.heads),
        rows_(rows),
        stride_(heads_.head_dim + row_padding),
        buffer_(device, std::max<std::int64_t>(1, problem.batch() * request_stride()),
                from_float<T>(kNaN)) {
    std::vector<T> host = buffer_.read();
    for (std::int64_t b = 0; b < problem.batch(); ++b) {
      const T* row = problem.requests[b].q.data();
      for (std::int64_t i = 0; i < problem.requests[b].q_len; ++i) {
        for (std::int64_t head = 0; head < heads_.num_q_heads; ++head, row += heads_.head_dim) {
          std::copy_n(row, heads_.head_dim,
                      host.data() + b * request_stride() + (head * rows_ + i) * stride_);
        }
      }
    }
    buffer_.write(host);
  }

  [[nodiscard]] std::int64_t request_stride() const { return heads_.num_q_heads * rows_ * stride_; }
  [[nodiscard]] TensorView<T, 3> view() const {
    return {buffer_.data(),
            {rows_, heads_.num_q_heads, heads_.head_dim},
            {stride_, rows_ * stride_, 1}};
  }

 private:
  Heads heads_;
  std::int64_t rows_;
  std::int64_t stride_;
  DeviceBuffer<T> buffer_;
};

/// Rows of [total_q, Hq, D] with NaN in the padding.
template <Element T>
class RowMemory {
 public:
  RowMemory(Device device, std::int64_t total_q, const Heads& heads, std::int64_t row_padding)
      : heads_(heads),
        stride_(heads.head_dim + row_padding),
        total_q_(total_q),
        buffer_(device, std::max<std::int64_t>(1, total_q) * heads.num_q_heads * stride_,
                from_float<T>(kNaN)) {}

  [[nodiscard]] TensorView<T, 3> view() const {
    return {buffer_.data(),
            {total_q_, heads_.num_q_heads, heads_.head_dim},
            {heads_.num_q_heads * stride_, stride_, 1}};
  }
  template <TestedTypes P>
  void write(const Problem<P>& problem) {
    std::vector<T> host = buffer_.read();
    T* row = host.data();
    for (const auto& request : problem.requests) {
      for (std::int64_t i = 0; i < request.q_len * heads_.num_q_heads; ++i, row += stride_) {
        std::copy_n(request.q.data() + i * heads_.head_dim, heads_.head_dim, row);
      }
    }
    buffer_.write(host);
  }
  /// Dense [total_q, Hq, D].
  [[nodiscard]] std::vector<T> read() const {
    const std::vector<T> host = buffer_.read();
    std::vector<T> rows;
    for (std::int64_t i = 0; i < total_q_ * heads_.num_q_heads; ++i) {
      rows.insert(rows.end(), host.begin() + i * stride_,
                  host.begin() + i * stride_ + heads_.head_dim);
    }
    return rows;
  }
  [[nodiscard]] bool padding_intact() const {
    const std::vector<T> host = buffer_.read();
    for (std::int64_t i = 0; i < buffer_.size(); ++i) {
      const bool padding = i % stride_ >= heads_.head_dim;
      const float value = to_float(host[i]);
      if (padding && value == value) return false;
    }
    return buffer_.guards_intact();
  }

 private:
  Heads heads_;
  std::int64_t stride_;
  std::int64_t total_q_;
  DeviceBuffer<T> buffer_;
};

}  // namespace hip_attn::test
