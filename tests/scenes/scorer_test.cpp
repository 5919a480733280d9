// The scorer of Scenes on pictures that were painted, not generated: what it says of them is right.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kScore = DARKROOM_BINARY_DIR "/bin/scenes_score";

nlohmann::json score(const std::string& specs) {
  const CommandResult r = run_command(kScore + " --specs " + specs);
  EXPECT_EQ(r.exit_code, 0) << r.output;
  const size_t last = r.output.find_last_of('\n', r.output.size() - 2);
  return nlohmann::json::parse(r.output.substr(last == std::string::npos ? 0 : last + 1));
}

TEST(SceneScorer, IsRightOnPaintedPictures) {
  const nlohmann::json counts = score(golden_path("scenes/specs.json"));
  EXPECT_EQ(counts["pictures"], 100);
  EXPECT_GE(counts["things"], 99);
  EXPECT_GE(counts["background"], 99);
  EXPECT_GE(counts["relation"].get<int>(), counts["with_relation"].get<int>() - 1);
}

// Asked for something else, it says no.
TEST(SceneScorer, IsNotPleasedByAnything) {
  TemporaryFolder f;
  nlohmann::json specs = nlohmann::json::parse(read_file(golden_path("scenes/specs.json")));
  for (nlohmann::json& s : specs) {
    s["file"] = golden_path("scenes/" + s["file"].get<std::string>());
    s["objects"][0]["colour"] = s["objects"][0]["colour"] == "red" ? "blue" : "red";
    s["background"] = s["background"] == "night" ? "sea" : "night";
  }
  write_file(f.file("specs.json"), specs.dump());
  const nlohmann::json counts = score(f.file("specs.json"));
  EXPECT_LE(counts["things"], 1);
  EXPECT_EQ(counts["background"], 0);
}

}  // namespace
}  // namespace darkroom::testing
