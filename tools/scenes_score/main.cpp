// scenes_score: what is in pictures of Scenes, as JSON, one line a picture; or whether it is what a specification asks for.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/mapped_file.h"
#include "tools/common/image_io.h"
#include "tools/common/run_main.h"
#include "tools/scenes_score/scorer.h"

namespace {

using namespace darkroom;
using nlohmann::json;

json to_json(const std::string& file, const scenes::Seen& seen) {
  json j = {{"file", file}, {"background", seen.background}, {"things", json::array()}};
  for (const scenes::SeenThing& t : seen.things)
    j["things"].push_back({{"thing", t.thing},
                           {"colour", t.colour},
                           {"x", t.x},
                           {"y", t.y},
                           {"size", t.size},
                           {"inside", t.inside},
                           {"confidence", t.confidence}});
  return j;
}

// {"objects": [{"thing", "colour"}, ...], "relation": "above" | null, "background": ... (optional)}
scenes::Wanted wanted_of(const json& spec) {
  scenes::Wanted w;
  if (spec.contains("relation") && spec["relation"].is_string()) w.relation = spec["relation"].get<std::string>();
  for (const json& o : spec.at("objects"))
    w.things.push_back({o.at("thing").get<std::string>(), o.value("colour", "")});
  return w;
}

int run(int argc, char** argv) {
  CLI::App app("Says what is in pictures of Scenes.", "scenes_score");
  app.set_version_flag("--version", version_text());
  std::vector<std::string> files;
  std::string specs;
  app.add_option("PICTURE", files, "PNG, JPEG or WebP files");
  app.add_option("--specs", specs,
                 "a JSON list of {file, objects, relation, background}: count how often pictures are as they should be")
      ->type_name("FILE");
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;
  for (const std::string& file : files) fmt::print("{}\n", to_json(file, scenes::look_at(read_image(file))).dump());
  if (specs.empty()) return 0;
  json list;
  try {
    list = json::parse(read_text_file(specs, size_t(1) << 30));
    int total = 0, things = 0, related = 0, relation = 0, backgrounds = 0, background = 0;
    for (const json& spec : list) {
      // Names are relative to the list.
      const std::string file =
          (std::filesystem::path(specs).parent_path() / spec.at("file").get<std::string>()).string();
      const scenes::Seen seen = scenes::look_at(read_image(file));
      const scenes::Wanted wanted = wanted_of(spec);
      const scenes::Verdict verdict = scenes::judge(seen, wanted);
      ++total;
      things += verdict.things;
      if (!wanted.relation.empty() && wanted.relation != "three") {
        ++related;
        relation += verdict.relation;
      }
      const bool right = !spec.contains("background") || spec["background"] == seen.background;
      if (spec.contains("background")) ++backgrounds;
      background += spec.contains("background") && right;
      if (!verdict.things || !right || (!wanted.relation.empty() && !verdict.relation))
        fmt::print("wrong: {} wanted {}\n", to_json(file, seen).dump(), spec.dump());
    }
    fmt::print("{}\n", json({{"pictures", total},
                             {"things", things},
                             {"with_relation", related},
                             {"relation", relation},
                             {"with_background", backgrounds},
                             {"background", background}})
                           .dump());
  } catch (const json::exception& e) {
    throw file_error("{}: {}", specs, e.what());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("scenes_score", argc, argv, run); }
