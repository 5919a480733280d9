// What the strict reader takes, and each way in which a file can be wrong.
#include "runtime/safetensors.h"

#include <gtest/gtest.h>

#include "tests/support/files.h"

namespace darkroom::testing {
namespace {

const std::string kFour(4, '\0');

TEST(Safetensors, ReadsTensorsAndMetadata) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_file(
      path,
      safetensors_bytes(
          R"({"__metadata__":{"k":"v"},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},)"
          R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]}}   )",
          kFour + kFour));
  const Safetensors file(path);
  EXPECT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.metadata().at("k"), "v");
  ASSERT_NE(file.find("b"), nullptr);
  EXPECT_EQ(file.find("b")->dtype, DType::f16);
  EXPECT_EQ(file.find("b")->bytes, 4u);
  EXPECT_EQ(file.find("c"), nullptr);
}

struct Broken {
  const char* what;
  std::string bytes;
  const char* message;  // part of it
};

class BrokenSafetensors : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenSafetensors, IsRefusedByName) {
  TemporaryFolder folder;
  const std::string path = folder.file("broken.safetensors");
  write_file(path, GetParam().bytes);
  const std::string error = error_of([&] { Safetensors file(path); });
  EXPECT_TRUE(error.starts_with("3: " + path)) << error;
  EXPECT_NE(error.find(GetParam().message), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

std::string one(const std::string& entry, const std::string& data) {
  return safetensors_bytes("{\"w\":" + entry + "}", data);
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenSafetensors,
    ::testing::Values(
        Broken{"empty", "", "empty"}, Broken{"short", "abc", "too few"},
        Broken{"header_beyond_file", std::string("\xff\0\0\0\0\0\0\0{}", 10), "truncated"},
        Broken{"header_huge", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "truncated"},
        Broken{"no_brace", safetensors_bytes(" {}", ""), "does not begin with {"},
        Broken{"bad_json", safetensors_bytes("{\"a\":", ""), "JSON"},
        Broken{
            "twice",
            safetensors_bytes(
                R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                kFour),
            "twice"},
        Broken{"missing_key", one(R"({"dtype":"F32","shape":[1]})", kFour), "exactly dtype"},
        Broken{"unknown_dtype", one(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})", kFour), "F33"},
        Broken{"negative_shape", one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", kFour), "-1"},
        Broken{"fractional_shape", one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", kFour), "1.0"},
        Broken{"overflow", one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})", kFour),
               "overflows"},
        Broken{"backwards", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", kFour), "backwards"},
        Broken{"beyond", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", kFour), "data_offsets"},
        Broken{"size_lies", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", kFour), "take 8"},
        Broken{"hole", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", kFour + kFour), "begins at 4"},
        Broken{"trailing_data", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", kFour + "x"),
               "the file has 5"},
        Broken{
            "overlap",
            safetensors_bytes(
                R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                kFour + "xx"),
            "begins at 2"},
        Broken{"metadata_number", safetensors_bytes(R"({"__metadata__":{"k":1}})", ""), "__metadata__ k"}),
    [](const auto& info) { return std::string(info.param.what); });

// What is large is refused while it is read, before it takes memory of its own.
std::string error_of_header(const std::string& header) {
  TemporaryFolder folder;
  const std::string path = folder.file("large.safetensors");
  write_file(path, safetensors_bytes(header, ""));
  std::string error = error_of([&] { Safetensors file(path); });
  EXPECT_TRUE(error.starts_with("3: " + path)) << error.substr(0, 200);
  EXPECT_LT(error.size(), 300u);
  return error;
}

TEST(LargeSafetensors, AMillionTensors) {
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_NE(error_of_header(header + "}").find("JSON with more than 100000 names in an object"), std::string::npos);
}

TEST(LargeSafetensors, AHeaderOf100MB) {
  constexpr size_t kLimit = 100'000'000;
  const std::string zeros = R"({"w":{"dtype":"U8","data_offsets":[0,0],"shape":[)";
  std::string header = zeros;
  while (header.size() + 5 < kLimit) header += "0,";
  header += "0]}}";
  EXPECT_NE(error_of_header(header).find("more than 1000000 values"), std::string::npos);
  // Spaces are what the format pads headers with: all that there may be, and one more.
  TemporaryFolder folder;
  const std::string path = folder.file("spaces.safetensors");
  write_file(path, safetensors_bytes("{" + std::string(kLimit - 2, ' ') + "}", ""));
  EXPECT_TRUE(Safetensors(path).entries().empty());
  EXPECT_NE(error_of_header("{" + std::string(kLimit - 1, ' ') + "}").find("has a header of 100000001 bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing
