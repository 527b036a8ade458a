// Every public header and the templates behind them, as a project with strict warnings compiles
// them. The first header is written by CMake.
#include "all_headers.hpp"

namespace hip_attn::cpu {
namespace {

template <Element T>
struct Instantiated {
  decltype(&run_attention<T>) attention = &run_attention<T>;
  decltype(&merge_row<T>) merge = &merge_row<T>;
};

}  // namespace
}  // namespace hip_attn::cpu

int main() {
  using namespace hip_attn;
  const cpu::Instantiated<float> with_float;
  const cpu::Instantiated<float16> with_float16;
  const cpu::Instantiated<bfloat16> with_bfloat16;
  return with_float.merge && with_float16.merge && with_bfloat16.merge ? 0 : 1;
}
