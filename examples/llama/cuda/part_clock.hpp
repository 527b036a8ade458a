/// What the parts of a model's passes took on a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "event_tape.hpp"
#include "part_times.hpp"

namespace llama {

class CudaPartClock {
 public:
  explicit CudaPartClock(cudaStream_t stream) : stream_(stream) {}

  /// What is enqueued from here on belongs to `part`.
  void begin(Part part);
  /// Waits for the stream, and adds up what has been timed since the last time.
  void synchronize();
  [[nodiscard]] const PartTimes& times() const noexcept { return times_; }

  /// While it lives, the stream is being captured and the marks go to the graph's tape.
  class Capture {
   public:
    Capture(CudaPartClock& clock, EventTape& tape) : clock_(clock) { clock.captured_ = &tape; }
    Capture(const Capture&) = delete;
    ~Capture() { clock_.captured_ = nullptr; }

   private:
    CudaPartClock& clock_;
  };
  /// A graph with this tape was launched. The tape lives until the next synchronize().
  void add_launch(const EventTape& tape) { launched_.push_back(&tape); }

 private:
  cudaStream_t stream_;
  EventTape tape_;
  EventTape* captured_ = nullptr;
  std::vector<const EventTape*> launched_;
  PartTimes times_;
};

}  // namespace llama
