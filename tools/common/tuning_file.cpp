#include "tools/common/tuning_file.h"

#include <cstdlib>
#include <filesystem>

namespace darkroom {

std::string tuning_path() {
  if (const char* named = std::getenv("DARKROOM_TUNING")) return named;
  std::string base;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"))
    base = cache;
  else if (const char* home = std::getenv("HOME"))
    base = std::string(home) + "/.cache";
  else
    return "";
  std::string machine = cpu_name() + "-" + isa_name(active_isa());
  for (char& c : machine)
    if (!isalnum(static_cast<unsigned char>(c))) c = '-';
  return base + "/darkroom/tuning/" + machine + ".json";
}

std::shared_ptr<const Tuning> find_tuning() {
  const std::string path = tuning_path();
  if (path.empty() || !std::filesystem::exists(path)) return nullptr;
  return std::make_shared<Tuning>(Tuning::load(path));
}

}  // namespace darkroom
