#include "event_tape.hpp"

#include "check.hpp"

namespace llama {

EventTape::~EventTape() {
  for (const Mark& mark : marks_) static_cast<void>(cudaEventDestroy(mark.event));
}

void EventTape::begin(Part part, cudaStream_t stream, bool in_graph) {
  const Part lasting = used_ == 0 ? Part::kOther : marks_[used_ - 1].part;
  if (part == lasting) return;
  if (used_ == marks_.size()) {
    cudaEvent_t event = nullptr;
    LLAMA_CUDA_CALL(cudaEventCreate, &event);
    marks_.push_back({event, part});
  }
  Mark& mark = marks_[used_++];
  mark.part = part;
  // Without the flag a captured event only orders the graph and keeps no time.
  const unsigned flags = in_graph ? cudaEventRecordExternal : cudaEventRecordDefault;
  LLAMA_CUDA_CALL(cudaEventRecordWithFlags, mark.event, stream, flags);
}

PartTimes EventTape::times() const {
  PartTimes times;
  for (std::size_t i = 0; i + 1 < used_; ++i) {
    if (marks_[i].part == Part::kOther) continue;
    float milliseconds = 0.f;
    LLAMA_CUDA_CALL(cudaEventElapsedTime, &milliseconds, marks_[i].event, marks_[i + 1].event);
    times.add(marks_[i].part, milliseconds * 1e-3);
  }
  return times;
}

}  // namespace llama
