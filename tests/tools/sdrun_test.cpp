// The programs as people run them: exit codes, messages, and the same bytes whatever the threads and the batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <tuple>

#include "runtime/backend.h"
#include "runtime/safetensors.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tools/common/image_io.h"

namespace darkroom::testing {
namespace {

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";
const std::string kModel = golden_path("models/tiny-sd15");

CommandResult sdrun(const std::string& arguments) { return run_command(kBin + "sdrun " + arguments); }

TEST(Sdrun, ThreadsBatchAndFileFormatGiveTheSameBytes) {
  TemporaryFolder f;
  ASSERT_EQ(run_command(kBin + "sdconvert -q " + kModel + " " + f.file("m.sdw")).exit_code, 0);
  for (const std::string dtype : {"f32", "bf16"}) {
    const std::string common = " -q --steps 3 --dtype " + dtype + " \"a (cat:1.3)\" ";
    ASSERT_EQ(sdrun("-m " + kModel + common + "-s 5 --threads 1 -o " + f.file("one.png")).exit_code, 0);
    ASSERT_EQ(sdrun("-m " + f.file("m.sdw") + common + "-s 5 --threads 2 -o " + f.file("two.png")).exit_code, 0);
    ASSERT_EQ(sdrun("-m " + f.file("m.sdw") + common + "-s 4 -b 3 --threads 2 -o " + f.file("b.png")).exit_code, 0);
    // The names of the two models stand in the pictures' texts: compare what comes after them.
    const auto pixels = [&](const std::string& name) {
      const std::string s = read_file(f.file(name));
      return s.substr(s.find("IDAT"));
    };
    EXPECT_EQ(pixels("one.png"), pixels("two.png")) << dtype;
    EXPECT_EQ(pixels("two.png"), pixels("b-2.png")) << dtype;
    EXPECT_NE(pixels("b-1.png"), pixels("b-2.png")) << dtype;
  }
}

TEST(Sdrun, AnImageSaysHowItWasMadeAndIsMadeAgain) {
  TemporaryFolder f;
  const std::string first = f.file("first.png"), again = f.file("again.png");
  ASSERT_EQ(
      sdrun(
          "-m " + kModel +
          " -q 'a caf\xc3\xa9, \xe7\x8c\xab' -n 'bad, art' --steps 4 --sampler 'DPM++ 2M Karras' --cfg-scale 5.5 -s 77 "
          "-W 64 -H 96 --rng cuda --clip-skip 2 -o " +
          first)
          .exit_code,
      0);
  const std::string png = read_file(first);
  for (const char* part :
       {"parameters", "Negative prompt: bad, art", "Steps: 4, Sampler: DPM++ 2M, Schedule type: Karras",
        "CFG scale: 5.5", "Seed: 77", "Size: 64x96", "Clip skip: 2", "RNG: GPU", "caf\xc3\xa9"})
    EXPECT_NE(png.find(part), std::string::npos) << part;
  ASSERT_EQ(sdrun("-m " + kModel + " -q --from-image " + first + " -o " + again).exit_code, 0);
  EXPECT_EQ(read_file(again), png);
}

TEST(Sdrun, NumbersInAnImageThatAreNone) {
  TemporaryFolder f;
  const std::string picture = f.file("p.png"), out = f.file("o.png");
  for (const auto& [says, key] : {std::pair("Steps: many", "Steps"),
                                  {"Steps: 4x", "Steps"},
                                  {"Steps: 99999999999", "Steps"},
                                  {"Steps: 4, CFG scale: high", "CFG scale"},
                                  {"Steps: 4, CFG scale: nan", "CFG scale"},
                                  {"Steps: 4, CFG scale: 1e999", "CFG scale"},
                                  {"Steps: 4, Seed: -1", "Seed"},
                                  {"Steps: 4, Seed: 99999999999999999999", "Seed"},
                                  {"Steps: 4, Eta: ", "Eta"},
                                  {"Steps: 4, Clip skip: 1.5", "Clip skip"},
                                  {"Steps: 4, Guided part: inf", "Guided part"},
                                  {"Steps: 4, Reuse deep: two", "Reuse deep"},
                                  {"Steps: 4, Size: 64", "Size"},
                                  {"Steps: 4, Size: 64x", "Size"},
                                  {"Steps: 4, Size: x64", "Size"}}) {
    write_png(picture, {8, 8, std::vector<uint8_t>(8 * 8 * 3)}, std::string("a\n") + says);
    const CommandResult r = sdrun("-m " + kModel + " -q --from-image " + picture + " -o " + out);
    EXPECT_EQ(r.exit_code, 3) << says << ": " << r.output;
    EXPECT_EQ(r.output.find("sdrun: " + picture + ": its parameters say " + key), 0u) << says << ": " << r.output;
    EXPECT_EQ(std::count(r.output.begin(), r.output.end(), '\n'), 1) << r.output;
    EXPECT_FALSE(std::filesystem::exists(out));
  }
  // An argument stands in for what a picture says.
  write_png(picture, {8, 8, std::vector<uint8_t>(8 * 8 * 3)}, "a\nSteps: many, Size: 64x64");
  EXPECT_EQ(sdrun("-m " + kModel + " -q --steps 1 --from-image " + picture + " -o " + out).exit_code, 0);
}

TEST(Sdrun, TakesTheModelsOwnDefaults) {
  TemporaryFolder f;
  const std::string folder = f.file("model"), picture = f.file("o.png");
  std::filesystem::copy(kModel, folder, std::filesystem::copy_options::recursive);
  write_file(folder + "/generation_config.json", R"({"num_inference_steps": 3, "guidance_scale": 2.5})");
  ASSERT_EQ(run_command(kBin + "sdconvert -q " + folder + " " + f.file("m.sdw")).exit_code, 0);
  for (const std::string& model : {folder, f.file("m.sdw")}) {
    ASSERT_EQ(sdrun("-q a -m " + model + " -o " + picture).exit_code, 0);
    EXPECT_NE(read_file(picture).find("Steps: 3,"), std::string::npos) << model;
    EXPECT_NE(read_file(picture).find("CFG scale: 2.5,"), std::string::npos) << model;
  }
  ASSERT_EQ(sdrun("-q a --steps 2 --cfg-scale 4 -m " + folder + " -o " + picture).exit_code, 0);
  EXPECT_NE(read_file(picture).find("Steps: 2,"), std::string::npos);
  EXPECT_NE(read_file(picture).find("CFG scale: 4,"), std::string::npos);
  write_file(folder + "/generation_config.json", R"({"num_inference_steps": 0})");
  const CommandResult r = sdrun("-q a -m " + folder + " -o " + picture);
  EXPECT_EQ(r.exit_code, 3);
  EXPECT_NE(r.output.find("generation_config.json: num_inference_steps is 0"), std::string::npos) << r.output;
}

TEST(Sdrun, BeginsWithAnImage) {
  TemporaryFolder f;
  const std::string common = "-m " + kModel + " -q a --steps 5 -W 64 -H 64 ";
  ASSERT_EQ(sdrun(common + "-o " + f.file("a.png")).exit_code, 0);
  ASSERT_EQ(sdrun(common + "-i " + f.file("a.png") + " --strength 0.4 -o " + f.file("b.png")).exit_code, 0);
  ASSERT_EQ(sdrun(common + "-i " + f.file("a.png") + " --strength 1 -o " + f.file("c.png")).exit_code, 0);
  EXPECT_NE(read_file(f.file("b.png")), read_file(f.file("c.png")));
}

// Models that are read as they lie: what a conversion would have found is found too.
TEST(Sdrun, WeightsThatAreNoNumbers) {
  TemporaryFolder f;
  const std::string folder = f.file("model");
  std::filesystem::copy(kModel, folder, std::filesystem::copy_options::recursive);
  for (const auto& [file, tensor, value, says] :
       {std::tuple("unet/diffusion_pytorch_model", "conv_in.bias", NAN, "unet/conv_in.bias holds nan at element 0"),
        {"vae/diffusion_pytorch_model", "decoder.conv_out.weight", INFINITY, "vae/decoder.conv_out.weight holds inf"},
        {"text_encoder/model", "text_model.embeddings.token_embedding.weight", NAN,
         "token_embedding.weight holds nan"}}) {
    const std::string path = folder + "/" + file + ".safetensors", good = read_file(path);
    std::string bad = good;
    const float number = value;
    std::memcpy(bad.data() + Safetensors(path).find(tensor)->offset, &number, sizeof(number));
    write_file(path, bad);
    const CommandResult r = sdrun("-q a --steps 1 -W 64 -H 64 -m " + folder + " -o " + f.file("o.png"));
    EXPECT_EQ(r.exit_code, 3) << r.output;
    EXPECT_NE(r.output.find(says), std::string::npos) << r.output;
    EXPECT_EQ(std::count(r.output.begin(), r.output.end(), '\n'), 1) << r.output;
    EXPECT_FALSE(std::filesystem::exists(f.file("o.png")));
    write_file(path, good);
  }
}

TEST(Sdrun, TakesATaesd) {
  TemporaryFolder f;
  const std::string decoder = " --vae " + golden_path("taesd/taesd_decoder.safetensors"),
                    encoder = " --vae " + golden_path("taesd/taesd_encoder.safetensors");
  const std::string common = "-m " + kModel + " -q a --steps 3 -W 64 -H 48 ";
  ASSERT_EQ(sdrun(common + decoder + " -o " + f.file("a.png")).exit_code, 0);
  EXPECT_EQ(read_image(f.file("a.png")).height, 48);
  const std::string begin = common + "-i " + f.file("a.png") + decoder;
  const CommandResult r = sdrun(begin + " -o " + f.file("b.png"));
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_NE(r.output.find("a TAESD's decoder alone: name the encoder's file with --vae too"), std::string::npos)
      << r.output;
  EXPECT_FALSE(std::filesystem::exists(f.file("b.png")));
  ASSERT_EQ(sdrun(begin + encoder + " --strength 0.4 -o " + f.file("c.png")).exit_code, 0);
  EXPECT_NE(read_file(f.file("a.png")), read_file(f.file("c.png")));
  // LDM's layout has no names for it; a .sdw file has, and gives the same picture.
  const CommandResult single = run_command(kBin + "sdconvert -q " + kModel + " " + f.file("m.safetensors") + decoder);
  EXPECT_EQ(single.exit_code, 2) << single.output;
  ASSERT_EQ(run_command(kBin + "sdconvert -q " + kModel + " " + f.file("m.sdw") + decoder + encoder).exit_code, 0);
  ASSERT_EQ(sdrun("-m " + f.file("m.sdw") + " -q a --steps 3 -W 64 -H 48 -o " + f.file("d.png")).exit_code, 0);
  EXPECT_EQ(read_image(f.file("d.png")).pixels, read_image(f.file("a.png")).pixels);
}

TEST(Sdrun, SwitchesFusionsAndKernels) {
  TemporaryFolder f;
  const std::string common = "-m " + kModel + " -q a --steps 2 -W 64 -H 64 ";
  ASSERT_EQ(sdrun(common + "--no-fuse group_norm_silu --no-fuse attention --kernel conv2d:ref --trace " +
                  f.file("t.json") + " -o " + f.file("a.png"))
                .exit_code,
            0);
  const std::string trace = read_file(f.file("t.json"));
  EXPECT_NE(trace.find("\"cat\":\"softmax\""), std::string::npos);
  EXPECT_EQ(trace.find("\"cat\":\"group_norm_silu\""), std::string::npos);
}

TEST(Sdrun, ChecksItselfAndSaysWhereItRuns) {
  TemporaryFolder f;
  const CommandResult r = sdrun("-m " + kModel + " a --steps 2 -W 64 -H 64 --device cpu --check -o " + f.file("a.png"));
  EXPECT_EQ(r.exit_code, 0) << r.output;
  EXPECT_NE(r.output.find("cpu: "), std::string::npos) << r.output;
  EXPECT_NE(r.output.find("(asked for)"), std::string::npos) << r.output;
  EXPECT_NE(r.output.find("plans agree with ref"), std::string::npos) << r.output;
}

struct Wrong {
  const char *name, *arguments;
  int exit_code;
  const char* message;
};
class WrongArguments : public ::testing::TestWithParam<Wrong> {};
TEST_P(WrongArguments, OneLineAndAnExitCode) {
  if (std::string(GetParam().name) == "no_gpu" && !why_no_cuda()) GTEST_SKIP() << "there is a GPU";
  TemporaryFolder f;
  write_file(f.file("junk.sdw"), std::string(1000, 'x'));
  std::string arguments = GetParam().arguments;
  for (const auto& [key, value] : {std::pair<std::string, std::string>("@M", kModel), {"@F", f.path()}})
    for (size_t at; (at = arguments.find(key)) != std::string::npos;) arguments.replace(at, key.size(), value);
  const CommandResult r = sdrun("-q " + arguments + " -o " + f.file("o.png"));
  EXPECT_EQ(r.exit_code, GetParam().exit_code) << r.output;
  EXPECT_NE(r.output.find(GetParam().message), std::string::npos) << r.output;
  EXPECT_EQ(std::count(r.output.begin(), r.output.end(), '\n'), 1) << r.output;
  EXPECT_FALSE(std::filesystem::exists(f.file("o.png")));
}
INSTANTIATE_TEST_SUITE_P(All, WrongArguments,
                         ::testing::Values(Wrong{"no_prompt", "-m @M", 2, "no prompt"},
                                           Wrong{"unknown_option", "--nonsense a", 2, "nonsense"},
                                           Wrong{"size", "-m @M a -W 65", 2, "no multiple of 8; 64 and 72 are"},
                                           Wrong{"steps", "-m @M a --steps 0x", 2, "steps"},
                                           Wrong{"sampler", "-m @M a --sampler foo", 2, "dpmpp_2m"},
                                           Wrong{"schedule", "-m @M a --sampler ddim --schedule karras", 2, "ddim"},
                                           Wrong{"pass", "-m @M a --no-fuse foo", 2, "group_norm_silu"},
                                           Wrong{"kernel", "-m @M a --kernel conv2d:foo", 2, "avx2_implicit"},
                                           Wrong{"clip_skip", "-m @M a --clip-skip 9", 2, "--clip-skip 9"},
                                           Wrong{"mask_alone", "-m @M a --mask @F/junk.sdw", 2, "--mask"},
                                           Wrong{"no_model", "-m @F/none.sdw a", 3, "does not exist"},
                                           Wrong{"junk_model", "-m @F/junk.sdw a", 3, "no .sdw file"},
                                           Wrong{"folder_without_model", "-m @F a", 3, "model_index.json"},
                                           Wrong{"junk_image", "-m @M a -i @F/junk.sdw", 3, "no PNG, JPEG or WebP"},
                                           Wrong{"device", "-m @M a --device tpu", 2, "cpu, cuda and auto"},
                                           Wrong{"no_gpu", "-m @M a --device cuda", 4, "use --device cpu"},
                                           Wrong{"utf8", "-m @M \"$(printf '\\377')\"", 2, "UTF-8"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Sdrun, CtrlCStopsAndLeavesNothing) {
  TemporaryFolder f;
  const CommandResult r = run_command("timeout --preserve-status -s INT 0.6 " + kBin + "sdrun -q -m " + kModel +
                                      " a --steps 900 -b 50 -o " + f.file("o.png"));
  EXPECT_EQ(r.exit_code, 130) << r.output;
  EXPECT_NE(r.output.find("interrupted"), std::string::npos) << r.output;
  for (const auto& entry : std::filesystem::directory_iterator(f.path()))
    EXPECT_EQ(entry.path().extension(), ".png") << entry.path();
}

TEST(Programs, HelpAndVersion) {
  for (const char* program : {"sdrun", "sdconvert"}) {
    EXPECT_EQ(run_command(kBin + program + " --help").exit_code, 0);
    const CommandResult version = run_command(kBin + program + " --version");
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_NE(version.output.find("darkroom 0."), std::string::npos);
  }
}

TEST(Sdconvert, ExitCodes) {
  TemporaryFolder f;
  EXPECT_EQ(run_command(kBin + "sdconvert").exit_code, 2);
  EXPECT_EQ(run_command(kBin + "sdconvert " + f.path() + " " + f.file("o.sdw")).exit_code, 3);
  ASSERT_EQ(run_command(kBin + "sdconvert -q " + kModel + " " + f.file("o.sdw") + " --dtype f16").exit_code, 0);
  EXPECT_EQ(run_command(kBin + "sdconvert verify " + f.file("o.sdw")).exit_code, 0);
  const CommandResult inspect = run_command(kBin + "sdconvert inspect " + f.file("o.sdw"));
  EXPECT_EQ(inspect.exit_code, 0);
  EXPECT_NE(inspect.output.find("text_encoder"), std::string::npos);
  std::string bytes = read_file(f.file("o.sdw"));
  bytes[bytes.size() - 400] = char(bytes[bytes.size() - 400] ^ 1);
  write_file(f.file("o.sdw"), bytes);
  EXPECT_EQ(run_command(kBin + "sdconvert verify " + f.file("o.sdw")).exit_code, 3);
}

}  // namespace
}  // namespace darkroom::testing
