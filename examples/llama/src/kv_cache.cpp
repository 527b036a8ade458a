#include "kv_cache.hpp"

#include <fmt/format.h>

#include <utility>

#include "error.hpp"

namespace llama {

PagePool::PagePool(std::int64_t num_pages, std::int64_t page_size)
    : page_size_(page_size), holders_(num_pages) {
  for (std::int64_t page = num_pages; page-- > 0;) {
    free_.push_back(static_cast<std::int32_t>(page));
  }
}

std::int32_t PagePool::acquire() {
  if (free_.empty()) {
    throw Error(ErrorCode::kOutOfPages,
                fmt::format("all {} pages of {} tokens of the KV cache are in use", num_pages(),
                            page_size_));
  }
  const std::int32_t page = free_.back();
  free_.pop_back();
  holders_[page] = 1;
  return page;
}

void PagePool::release(std::int32_t page) {
  if (--holders_[page] == 0) free_.push_back(page);
}

Sequence::Sequence(Sequence&& other) noexcept
    : decode_steps(other.decode_steps),
      pool_(other.pool_),
      slot_(other.slot_),
      pages_(std::exchange(other.pages_, {})),
      size_(std::exchange(other.size_, 0)) {}

Sequence::~Sequence() {
  for (const std::int32_t page : pages_) pool_->release(page);
}

void Sequence::grow(std::int64_t count) {
  while (static_cast<std::int64_t>(pages_.size()) * pool_->page_size() < size_ + count) {
    pages_.push_back(pool_->acquire());
  }
  size_ += count;
}

Sequence Sequence::fork(std::int32_t slot) const {
  Sequence child(*pool_, slot);
  const std::int64_t full_pages = size_ / pool_->page_size();
  child.pages_.assign(pages_.begin(), pages_.begin() + full_pages);
  for (const std::int32_t page : child.pages_) pool_->share(page);
  child.size_ = full_pages * pool_->page_size();
  return child;
}

}  // namespace llama
