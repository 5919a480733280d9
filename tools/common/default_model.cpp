#include "tools/common/default_model.h"

#include <cstdlib>
#include <filesystem>

#include "kernels/core/error.h"

namespace darkroom {

std::string default_model() {
  namespace fs = std::filesystem;
  if (const char* named = std::getenv("DARKROOM_MODEL")) return named;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = program.parent_path().parent_path() / "share" / "darkroom" / "scenes.sdw";
  if (fs::exists(beside, error)) return beside.string();
  throw usage_error("no model: name one with -m MODEL ({} is not there)", beside.string());
}

}  // namespace darkroom
