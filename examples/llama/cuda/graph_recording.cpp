#include "graph_recording.hpp"

#include "check.hpp"

namespace llama {

GraphRecording::~GraphRecording() {
  // The clock may still want to read the tape.
  try {
    clock_.synchronize();
  } catch (...) {  // said by whoever uses the stream next
  }
  if (graph_) static_cast<void>(cudaGraphExecDestroy(graph_));
}

void GraphRecording::run(const std::function<void()>& work) {
  if (!warm_) {
    work();
    warm_ = true;
    return;
  }
  if (!graph_) capture(work);
  clock_.synchronize();  // a launch overwrites the times of the one before
  LLAMA_CUDA_CALL(cudaGraphLaunch, graph_, stream_);
  clock_.add_launch(tape_);
}

void GraphRecording::capture(const std::function<void()>& work) {
  const CudaPartClock::Capture marks(clock_, tape_);
  // Relaxed: what cuBLAS does for itself meanwhile does not concern the stream.
  LLAMA_CUDA_CALL(cudaStreamBeginCapture, stream_, cudaStreamCaptureModeRelaxed);
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    static_cast<void>(cudaStreamEndCapture(stream_, &graph));
    if (graph) static_cast<void>(cudaGraphDestroy(graph));
    throw;
  }
  LLAMA_CUDA_CALL(cudaStreamEndCapture, stream_, &graph);
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  check_cuda_call(error, "cudaGraphInstantiate");
}

}  // namespace llama
