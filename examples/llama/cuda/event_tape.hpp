/// Times the parts of a pass with CUDA events, without waiting for any of them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "part_times.hpp"

namespace llama {

/// One event where each part begins: it lasts until the next.
class EventTape {
 public:
  EventTape() = default;
  EventTape(const EventTape&) = delete;
  ~EventTape();

  /// Records an event unless `part` is the one that lasts. `in_graph`: the stream is being
  /// captured; every launch of the graph then records the event anew.
  void begin(Part part, cudaStream_t stream, bool in_graph);

  /// The parts' seconds, once the stream has reached the last event.
  [[nodiscard]] PartTimes times() const;
  /// Starts over, with the same events.
  void rewind() noexcept { used_ = 0; }

 private:
  struct Mark {
    cudaEvent_t event = nullptr;
    Part part = Part::kOther;
  };
  std::vector<Mark> marks_;
  std::size_t used_ = 0;
};

}  // namespace llama
