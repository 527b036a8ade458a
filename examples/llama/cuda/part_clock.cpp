#include "part_clock.hpp"

#include "check.hpp"

namespace llama {

void CudaPartClock::begin(Part part) {
  (captured_ ? *captured_ : tape_).begin(part, stream_, captured_ != nullptr);
}

void CudaPartClock::synchronize() {
  begin(Part::kOther);
  LLAMA_CUDA_CALL(cudaStreamSynchronize, stream_);
  times_ += tape_.times();
  tape_.rewind();
  for (const EventTape* tape : launched_) times_ += tape->times();
  launched_.clear();
}

}  // namespace llama
