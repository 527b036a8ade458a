/// The first bad value that a call meets while it reads device arrays (tables, selections, caches).
#pragma once

#include <atomic>
#include <cstdint>

#include "hip_attn/language.hpp"

namespace hip_attn::cpu {

/// Threads race to report; the first wins. The operator turns it into a Status after the call.
class CallError {
 public:
  CallError() = default;
  CallError(const CallError& other) noexcept
      : found_(other.found()),
        kind_(other.kind_),
        request_(other.request_),
        kv_head_(other.kv_head_),
        where_(other.where_),
        value_(other.value_),
        level_(other.level_) {}
  CallError& operator=(const CallError&) = delete;

  enum class Kind : int {
    kPage,             ///< block_table(request, where) is value
    kLandmarkPage,     ///< landmarks.levels[level].block_table(request, where) is value
    kSelectionCount,   ///< selection.counts(where, kv_head) is value
    kSelectionWindow,  ///< selection.window_start(where, kv_head) is value
    kSelectionBlock,   ///< a block of selection.blocks(where, kv_head) is value
    kCacheEntry,       ///< the entry of slot `where` holds value where no search could have put it
  };

  void report(Kind kind, std::int64_t request, std::int64_t kv_head, std::int64_t where,
              std::int64_t value, int level = 0) noexcept {
    if (found_.exchange(true)) return;
    kind_ = kind;
    request_ = request;
    kv_head_ = kv_head;
    where_ = where;
    value_ = value;
    level_ = level;
  }

  // To be read, and copied, once the call is complete.
  [[nodiscard]] bool found() const noexcept { return found_; }
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] std::int64_t request() const noexcept { return request_; }
  [[nodiscard]] std::int64_t kv_head() const noexcept { return kv_head_; }
  [[nodiscard]] std::int64_t where() const noexcept { return where_; }
  [[nodiscard]] std::int64_t value() const noexcept { return value_; }
  [[nodiscard]] int level() const noexcept { return level_; }

 private:
  std::atomic<bool> found_ = false;
  Kind kind_ = Kind::kPage;
  std::int64_t request_ = 0;
  std::int64_t kv_head_ = 0;
  std::int64_t where_ = 0;
  std::int64_t value_ = 0;
  int level_ = 0;
};

}  // namespace hip_attn::cpu
