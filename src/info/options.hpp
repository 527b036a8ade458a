// What hip_attn-info is asked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hip_attn/attention.hpp"
#include "hip_attn/config.hpp"

namespace hip_attn::info {

struct Options {
  bool json = false;
  std::string op = "both";  // prefill, decode or both
  std::int64_t batch = 1;
  std::int64_t context = 0;  // 0: no plan is asked for
  std::int64_t rows = 0;     // of each request; 0: the whole context in prefill, 1 in decode
  std::int64_t q_heads = 32;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 128;
  std::int64_t page_size = 16;
  std::string type = "bfloat16";
  std::string preset = "infinite_hip";
  std::string config;                 // a file
  std::vector<std::string> stages;    // CHUNK:KEEP:STRIDE[:RULE[:REDUCTION]]
  std::vector<std::int32_t> refresh;  // steps between two runs of each stage
  std::int64_t sink = -1;             // -1: as the preset says
  std::int64_t window = -1;
  std::int64_t block_q = -1;
  std::int64_t dense_until = -1;  // -1: as a plan chooses
  std::string gpu;                // a name of the cost model; empty: the device
  int device = 0;
  std::string kernels = "chosen";  // or portable
  int team = 0;                    // thread blocks of a unit of decode; 0: as a plan chooses
  bool behind_append = false;
  std::int64_t layers = 32;
  double weights_gb = 0.;
  double miss = 0.05;  // KV offload: of the blocks that a search asks for, the part not on the GPU
  bool terms = false;
};

/// Thrown for arguments that cannot be honoured; what() names argument, value and what is accepted.
class UsageError : public std::exception {
 public:
  explicit UsageError(std::string message) : message_(std::move(message)) {}
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// What the program does next: with a code to exit with, or with the options.
struct Parsed {
  bool exits = false;
  int code = 0;
  Options options;
};
Parsed parse_options(int argc, char** argv);

/// The configuration for one operator, and what it is called. Throws UsageError.
struct NamedConfig {
  std::string name;
  HipConfig config;
  std::vector<std::string> notes;  // of the file
};
NamedConfig named_config(const Options& options, Operator op);

ElementType element_type(const Options& options);
const char* to_string(ElementType type);

}  // namespace hip_attn::info
