#include "safetensors.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>

#include "hip_attn/types.hpp"
#include "json_file.hpp"

namespace llama {
namespace {

/// The format's own limit on headers.
constexpr std::int64_t kMaxHeaderBytes = 100'000'000;

template <typename T>
std::vector<float> to_floats(const std::vector<char>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    std::copy_n(bytes.data() + i * sizeof(T), sizeof(T), reinterpret_cast<char*>(&value));
    values[i] = hip_attn::to_float(value);
  }
  return values;
}

/// A type that can be read. The format has others, and gets new ones; tensors of those may be in a
/// file, as long as nothing asks for them.
struct ReadableType {
  std::int64_t element_bytes;
  std::vector<float> (*to_floats)(const std::vector<char>& bytes);
};

const ReadableType* readable_type(const std::string& dtype) {
  static const std::map<std::string, ReadableType> kTypes = {
      {"BF16", {2, to_floats<hip_attn::bfloat16>}},
      {"F16", {2, to_floats<hip_attn::float16>}},
      {"F32", {4, to_floats<float>}}};
  const auto it = kTypes.find(dtype);
  return it == kTypes.end() ? nullptr : &it->second;
}

/// The product of the sizes and the element size, or nothing when it does not fit.
std::optional<std::int64_t> total_bytes(const TensorEntry& entry, std::int64_t element) {
  std::int64_t bytes = element;
  for (const std::int64_t size : entry.shape) {
    if (size != 0 && bytes > std::numeric_limits<std::int64_t>::max() / size) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

/// A size or an offset, or -1 when the value is not one.
std::int64_t as_size(const Json& value) {
  if (!value.is_number_unsigned()) return -1;
  const auto size = value.get<std::uint64_t>();
  return size <= std::numeric_limits<std::int64_t>::max() ? static_cast<std::int64_t>(size) : -1;
}

TensorEntry parse_entry(const Fields& fields, std::int64_t data_bytes) {
  TensorEntry entry;
  entry.dtype = fields.string("dtype");

  const Json& shape = fields.at("shape");
  if (!shape.is_array()) fields.reject("shape", "a list of sizes");
  for (const Json& size : shape) {
    entry.shape.push_back(as_size(size));
    if (entry.shape.back() < 0) fields.reject("shape", "a list of sizes");
  }

  const Json& offsets = fields.at("data_offsets");
  if (offsets.is_array() && offsets.size() == 2) {
    entry.begin = as_size(offsets[0]);
    entry.end = as_size(offsets[1]);
  }
  if (entry.begin < 0 || entry.begin > entry.end) {
    fields.reject("data_offsets", "[begin, end] with 0 <= begin <= end");
  }
  if (entry.end > data_bytes) {
    throw Error(ErrorCode::kTruncatedSafetensors,
                fmt::format("{} ends at byte {} of the data, but the file holds {}", fields.where(),
                            entry.end, data_bytes));
  }
  const ReadableType* type = readable_type(entry.dtype);
  if (!type) return entry;
  const auto needed = total_bytes(entry, type->element_bytes);
  if (needed != entry.end - entry.begin) {
    throw Error(ErrorCode::kInconsistentSafetensors,
                fmt::format("{} spans {} bytes, but {} of shape {} takes {}", fields.where(),
                            entry.end - entry.begin, entry.dtype, entry.shape,
                            needed ? fmt::to_string(*needed) : "more than 2^63"));
  }
  return entry;
}

/// The tensors must tile the data: the format allows neither overlaps nor gaps.
void check_tiling(const std::string& where, const std::map<std::string, TensorEntry>& entries,
                  std::int64_t data_bytes) {
  std::vector<std::pair<const TensorEntry*, const std::string*>> by_offset;
  for (const auto& [name, entry] : entries) by_offset.emplace_back(&entry, &name);
  std::sort(by_offset.begin(), by_offset.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  std::int64_t end = 0;
  for (const auto& [entry, name] : by_offset) {
    if (entry->begin != end) {
      throw Error(
          ErrorCode::kInconsistentSafetensors,
          fmt::format("{}: tensor {} begins at byte {} of the data; the one before ends at {}",
                      where, *name, entry->begin, end));
    }
    end = entry->end;
  }
  if (end != data_bytes) {
    throw Error(
        ErrorCode::kInconsistentSafetensors,
        fmt::format("{}: {} bytes of data follow the last tensor", where, data_bytes - end));
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
  const std::string where = path_.string();
  // A folder can be opened like a file.
  std::ifstream file;
  if (std::filesystem::is_regular_file(path_)) file.open(path_, std::ios::binary | std::ios::ate);
  if (!file.is_open()) {
    throw Error(ErrorCode::kCannotReadFile, fmt::format("cannot read {}", where));
  }
  const auto file_bytes = static_cast<std::int64_t>(file.tellg());
  std::array<unsigned char, 8> length_bytes{};
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(length_bytes.data()), 8)) {
    throw Error(
        ErrorCode::kTruncatedSafetensors,
        fmt::format("{} has {} bytes; the header's length alone takes 8", where, file_bytes));
  }
  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | length_bytes[i];
  if (header_bytes > kMaxHeaderBytes) {
    throw Error(ErrorCode::kInconsistentSafetensors,
                fmt::format("{}: a header of {} bytes; the format allows {}", where, header_bytes,
                            kMaxHeaderBytes));
  }
  data_start_ = 8 + static_cast<std::int64_t>(header_bytes);
  std::string header(header_bytes, '\0');
  if (data_start_ > file_bytes || !file.read(header.data(), data_start_ - 8)) {
    throw Error(
        ErrorCode::kTruncatedSafetensors,
        fmt::format("{} has {} bytes; its header ends at byte {}", where, file_bytes, data_start_));
  }

  constexpr auto kMalformed = ErrorCode::kInconsistentSafetensors;
  const Json json = parse_object(header, where + ": the header", kMalformed);
  const std::int64_t data_bytes = file_bytes - data_start_;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") continue;
    const Fields fields(value, where + ": tensor " + name, kMalformed);
    entries_.emplace(name, parse_entry(fields, data_bytes));
  }
  check_tiling(where, entries_, data_bytes);
}

std::vector<char> SafetensorsFile::bytes(const std::string& name) const {
  const TensorEntry& entry = entries_.at(name);
  std::vector<char> bytes(entry.end - entry.begin);
  std::ifstream file(path_, std::ios::binary);
  file.seekg(data_start_ + entry.begin);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    throw Error(ErrorCode::kCannotReadFile,
                fmt::format("cannot read tensor {} of {}", name, path_.string()));
  }
  return bytes;
}

std::vector<float> SafetensorsFile::read(const std::string& name) const {
  const std::string& dtype = entries_.at(name).dtype;
  const ReadableType* type = readable_type(dtype);
  if (!type) {
    throw Error(
        ErrorCode::kUnsupportedTensorType,
        fmt::format("{}: tensor {} is {}; expected BF16, F16 or F32", path_.string(), name, dtype));
  }
  return type->to_floats(bytes(name));
}

}  // namespace llama
