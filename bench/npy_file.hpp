// Arrays of numpy in files (.npy, version 1.0), little-endian as the machines that we run on.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace hip_attn::bench {

// Returns whether the file was written. `shape` in C order, as many values as it says.
inline bool write_npy(const std::filesystem::path& path, const std::vector<std::int64_t>& shape,
                      const std::vector<std::int32_t>& values) {
  std::string sizes;
  for (const std::int64_t size : shape) sizes += fmt::format("{},", size);
  std::string header =
      fmt::format("{{'descr': '<i4', 'fortran_order': False, 'shape': ({}), }}", sizes);
  constexpr std::size_t kBefore = 10;  // magic, version and length of the header
  header.append(63 - (kBefore + header.size()) % 64, ' ').push_back('\n');
  std::ofstream file(path, std::ios::binary);
  file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size() % 256)
       << static_cast<char>(header.size() / 256) << header;
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(std::int32_t)));
  return file.good();
}

}  // namespace hip_attn::bench
