/// Where landmarks lie in a paged cache.
///
/// A landmark lies with the page that holds the last token of its chunk. So sequences that share a
/// prefix share it with that page, and give it back with it, without a bookkeeping of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llama {

/// Of the landmarks of one chunk size, beside pages of keys.
class LandmarkPlaces {
 public:
  LandmarkPlaces(std::int64_t chunk_size, std::int64_t page_size)
      : chunk_size_(chunk_size), page_size_(page_size) {}

  [[nodiscard]] std::int64_t chunk_size() const noexcept { return chunk_size_; }
  /// Whether the block table of the keys is that of the landmarks too, because chunks do not cross
  /// pages. Otherwise a landmark is a page of its own, in a table with a column for every chunk.
  [[nodiscard]] bool in_pages_of_keys() const noexcept { return page_size_ % chunk_size_ == 0; }
  /// Chunks that end in one page of keys at most.
  [[nodiscard]] std::int64_t per_page_of_keys() const noexcept {
    return (page_size_ + chunk_size_ - 1) / chunk_size_;
  }
  [[nodiscard]] std::int64_t landmarks_per_page() const noexcept {
    return in_pages_of_keys() ? per_page_of_keys() : 1;
  }
  [[nodiscard]] std::int64_t num_pages(std::int64_t pages_of_keys) const noexcept {
    return pages_of_keys * per_page_of_keys() / landmarks_per_page();
  }
  /// Columns of its own table beside one of so many pages of keys.
  [[nodiscard]] std::int64_t columns(std::int64_t pages_of_keys) const noexcept {
    return pages_of_keys * page_size_ / chunk_size_;
  }
  /// A request's row of its own table, made of that of the keys. Entries of pages that a request
  /// does not have are -1 in both.
  [[nodiscard]] std::vector<std::int32_t> row(std::span<const std::int32_t> pages_of_keys) const;

 private:
  std::int64_t chunk_size_;
  std::int64_t page_size_;
};

}  // namespace llama
