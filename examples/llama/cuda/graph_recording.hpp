/// Work that is captured in a CUDA graph and launched from it.
#pragma once

#include <cuda_runtime_api.h>

#include "backend.hpp"
#include "event_tape.hpp"
#include "part_clock.hpp"

namespace llama {

/// The first run is a plain one, in which cuBLAS and the driver load what they load only once; the
/// second is captured.
class GraphRecording final : public Recording {
 public:
  GraphRecording(cudaStream_t stream, CudaPartClock& clock) : stream_(stream), clock_(clock) {}
  ~GraphRecording() override;

  void run(const std::function<void()>& work) override;

 private:
  void capture(const std::function<void()>& work);

  cudaStream_t stream_;
  CudaPartClock& clock_;
  bool warm_ = false;
  cudaGraphExec_t graph_ = nullptr;
  EventTape tape_;  // its events are part of the graph
};

}  // namespace llama
