// What the program says of a check that fails.
#pragma once

#include <cstdio>
#include <string>

#include "hip_attn/status.hpp"

namespace own {

inline bool succeeds(const char* what, const hip_attn::Status& status) {
  if (!status.ok()) std::printf("%s: %s\n", what, status.message().c_str());
  return status.ok();
}

/// The code, and words that the message must have.
inline bool is_refused(const char* what, const hip_attn::Status& status, hip_attn::StatusCode code,
                       const std::string& words) {
  if (status.code() == code && status.message().find(words) != std::string::npos) return true;
  std::printf("%s: %s \"%s\"; expected %s \"%s\"\n", what, hip_attn::to_string(status.code()),
              status.message().c_str(), hip_attn::to_string(code), words.c_str());
  return false;
}

}  // namespace own
