/// What the user should hear about although the program goes on.
#pragma once

#include <string>
#include <vector>

namespace llama {

/// Writes "llama: warning: <message>" to stderr. The message says what was found, and what is done.
void warn(const std::string& message);

/// While it lives, warnings are kept here instead of being written. For tests.
class CollectedWarnings {
 public:
  CollectedWarnings();
  CollectedWarnings(const CollectedWarnings&) = delete;
  CollectedWarnings& operator=(const CollectedWarnings&) = delete;
  ~CollectedWarnings();

  [[nodiscard]] const std::vector<std::string>& messages() const noexcept { return messages_; }

 private:
  std::vector<std::string> messages_;
  std::vector<std::string>* outer_;
};

}  // namespace llama
