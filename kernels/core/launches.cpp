#include "kernels/core/launches.h"

namespace darkroom::cuda {

namespace {
thread_local std::vector<Launch>* noted = nullptr;  // of this thread's launches_of()
thread_local bool loading = false;                  // in this thread's load_kernels()
}  // namespace

bool note_launch(const Launch& launch) {
  if (noted) noted->push_back(launch);
  return noted != nullptr;
}

std::vector<Launch> launches_of(const KernelDef& kernel, const KernelCall& call) {
  struct Noting {
    explicit Noting(std::vector<Launch>& launches) { noted = &launches; }
    ~Noting() { noted = nullptr; }
  };
  std::vector<Launch> launches;
  const Noting noting(launches);
  kernel.enqueue(call, {});
  return launches;
}

bool loads_only() { return loading; }

void load_kernels(const KernelDef& kernel, const KernelCall& call) {
  struct Loading {
    Loading() { loading = true; }
    ~Loading() { loading = false; }
  };
  const Loading now;
  kernel.enqueue(call, {});
}

}  // namespace darkroom::cuda
