// Arrows run one way: kernels ← runtime ← model ← tools. Vendor libraries are seen by bench alone.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "tests/support/files.h"

namespace darkroom::testing {
namespace {

namespace fs = std::filesystem;

template <typename Visit>
int for_sources(const std::string& room, Visit visit) {
  int files = 0;
  const fs::path root = DARKROOM_SOURCE_DIR;
  for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".inc") continue;
    ++files;
    std::istringstream lines(read_file(entry.path().string()));
    size_t number = 0;
    for (std::string line; std::getline(lines, line);) visit(fs::relative(entry.path(), root).string(), ++number, line);
    EXPECT_LE(number, 620u) << entry.path() << " is too long to be read";
  }
  return files;
}

TEST(Layering, IncludesRunOneWay) {
  const std::map<std::string, std::vector<std::string>> forbidden = {
      {"kernels", {"runtime/", "model/", "tools/", "bench/", "tests/"}},
      {"runtime", {"model/", "tools/", "bench/", "tests/"}},
      {"model", {"tools/", "bench/", "tests/", "kernels/kernels.inc", "cuda"}},
      {"tools", {"bench/", "tests/"}},
  };
  for (const auto& [room, others] : forbidden) {
    const int files =
        for_sources(room, [&, &others = others](const std::string& file, size_t line, const std::string& text) {
          if (!text.starts_with("#include \"") && !text.starts_with("#include <")) return;
          for (const std::string& other : others)
            if (text.find("\"" + other) != std::string::npos || text.find("<" + other) != std::string::npos)
              ADD_FAILURE() << file << ":" << line << ": " << text;
        });
    EXPECT_GT(files, 3) << room;
  }
}

}  // namespace
}  // namespace darkroom::testing
