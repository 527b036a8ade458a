#include "landmark_places.hpp"

namespace llama {

std::vector<std::int32_t> LandmarkPlaces::row(std::span<const std::int32_t> pages_of_keys) const {
  std::vector<std::int32_t> row(columns(static_cast<std::int64_t>(pages_of_keys.size())));
  for (std::int64_t chunk = 0; chunk < static_cast<std::int64_t>(row.size()); ++chunk) {
    const std::int64_t last_token = (chunk + 1) * chunk_size_ - 1;
    const std::int32_t page = pages_of_keys[last_token / page_size_];
    // Chunks that end in one page follow each other, so they differ in the remainder.
    row[chunk] =
        page < 0
            ? page
            : static_cast<std::int32_t>(page * per_page_of_keys() + chunk % per_page_of_keys());
  }
  return row;
}

}  // namespace llama
