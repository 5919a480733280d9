#include <simt/submit.h>

namespace darkroom::simt {

void submit(void*, std::function<void()> work) { work(); }

}  // namespace darkroom::simt
