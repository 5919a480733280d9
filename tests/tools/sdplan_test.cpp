// sdplan as people and programs read it: the JSON of a plan is whole and true to itself, the page needs nothing else.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kSdplan = DARKROOM_BINARY_DIR "/bin/sdplan -m " + golden_path("models/tiny-sd15") + " ";

nlohmann::json plans(const std::string& arguments) {
  const CommandResult r = run_command(kSdplan + arguments + " --json -");
  EXPECT_EQ(r.exit_code, 0) << r.output;
  return nlohmann::json::parse(r.output);
}

TEST(Sdplan, ListsEveryGraphOnce) {
  std::vector<std::string> names;
  for (const auto& plan : plans("")) names.push_back(plan["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"text_encoder", "unet_prompt", "unet_schedule", "unet", "vae_decoder",
                                             "vae_encoder"}));
}

// What the arena's map shows: alive at the same time means apart in memory; nothing lies outside; the bound is one.
TEST(Sdplan, BuffersThatAreAliveTogetherAreApart) {
  size_t compared = 0;
  for (const auto& plan : plans("")) {
    SCOPED_TRACE(plan["name"]);
    const size_t arena = plan["arena_bytes"], bound = plan["lower_bound_bytes"], naive = plan["naive_bytes"];
    EXPECT_LE(bound, arena);
    EXPECT_LE(arena, naive);
    const auto& steps = plan["steps"];
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto& a = steps[i]["output"];
      if (a["place"] != "arena") continue;
      const size_t a_begin = a["offset"], a_end = a_begin + size_t(a["bytes"]);
      EXPECT_LE(a_end, arena);
      for (size_t j = 0; j < i; ++j) {
        const auto& b = steps[j]["output"];
        if (b["place"] != "arena" || b["value"] == a["value"]) continue;
        if (int(b["last"]) < int(a["first"]) || int(a["last"]) < int(b["first"])) continue;
        const size_t b_begin = b["offset"], b_end = b_begin + size_t(b["bytes"]);
        const bool in_place = int(b["last"]) == int(a["first"]);
        EXPECT_TRUE(b_end <= a_begin || a_end <= b_begin || (in_place && a_begin == b_begin))
            << steps[j]["node"] << " and " << steps[i]["node"];
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 1000u);
}

TEST(Sdplan, SaysWhatWasRefusedAndWhy) {
  const auto step_of = [](const nlohmann::json& plan, const std::string& op) {
    for (const auto& step : plan["steps"])
      if (step["op"] == op) return step;
    return nlohmann::json();
  };
  const nlohmann::json chosen = step_of(plans("--graph unet")[0], "conv2d");
  ASSERT_FALSE(chosen.is_null());
  const nlohmann::json forced = step_of(plans("--graph unet --kernel conv2d:ref")[0], "conv2d");
  ASSERT_FALSE(forced.is_null());
  EXPECT_EQ(forced["variant"], "ref");
  if (chosen["variant"] != "ref") {
    ASSERT_FALSE(forced["refused"].empty());
    for (const auto& refusal : forced["refused"]) EXPECT_FALSE(refusal["reason"].get<std::string>().empty());
  }
}

TEST(Sdplan, AFusionSwitchedOffComesBackAsItsParts) {
  const auto count = [](const nlohmann::json& all, const std::string& op) {
    size_t n = 0;
    for (const auto& plan : all)
      for (const auto& step : plan["steps"]) n += step["op"] == op;
    return n;
  };
  const nlohmann::json with = plans("--graph unet"), without = plans("--graph unet --no-fuse attention");
  EXPECT_GT(count(with, "attention"), 0u);
  EXPECT_EQ(count(with, "softmax"), 0u);
  EXPECT_EQ(count(without, "attention"), 0u);
  EXPECT_EQ(count(without, "softmax"), count(with, "attention"));
}

TEST(Sdplan, ThePageNeedsNothingElse) {
  TemporaryFolder f;
  ASSERT_EQ(run_command(kSdplan + "--html " + f.file("plan.html")).exit_code, 0);
  const std::string page = read_file(f.file("plan.html"));
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("vae_decoder"), std::string::npos);
  for (const char* outside : {"http:", "https:", "src=", "<link"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

TEST(Sdplan, RefusesAGraphThatIsNot) {
  const CommandResult r = run_command(kSdplan + "--graph lungs");
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_NE(r.output.find("there are text_encoder"), std::string::npos) << r.output;
}

// Measured once, kept, and taken from then on by plans and by sdrun.
TEST(Sdplan, TuneKeepsWhatItMeasures) {
  TemporaryFolder f;
  const std::string tuned = "env DARKROOM_TUNING=" + f.file("times.json") + " ";
  const CommandResult first = run_command(tuned + kSdplan + "tune --runs 1 --graph unet");
  EXPECT_EQ(first.exit_code, 0) << first.output;
  EXPECT_NE(first.output.find(f.file("times.json") + ": "), std::string::npos) << first.output;
  const auto file = nlohmann::json::parse(read_file(f.file("times.json")));
  EXPECT_FALSE(file["calls"].empty());
  const CommandResult second = run_command(tuned + kSdplan + "tune --runs 1 --graph unet");
  EXPECT_NE(second.output.find(" 0 of them measured now"), std::string::npos) << second.output;

  const CommandResult run = run_command(tuned + DARKROOM_BINARY_DIR + "/bin/sdrun -m " +
                                        golden_path("models/tiny-sd15") + " a --steps 1 -o " + f.file("o.png"));
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_NE(run.output.find(", tuned ("), std::string::npos) << run.output;
  write_file(f.file("times.json"), "{}");
  const CommandResult damaged = run_command(tuned + kSdplan);
  EXPECT_EQ(damaged.exit_code, 3) << damaged.output;
  EXPECT_NE(damaged.output.find(f.file("times.json")), std::string::npos) << damaged.output;
}

}  // namespace
}  // namespace darkroom::testing
