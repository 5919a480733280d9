// Files that torch.save() wrote, and everything that a zip file or a pickle can do wrong or try.
#include "runtime/torch_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "runtime/tensor_file.h"
#include "runtime/tensor_file_writer.h"
#include "runtime/zip_archive.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

std::string fixture(const std::string& name) { return golden_path("torch/" + name); }

// The values of a tensor in the order of its indices.
std::vector<double> values(const StoredTensor& t) {
  std::vector<int64_t> strides = t.strides;
  if (strides.empty()) {
    strides.resize(t.shape.size());
    int64_t step = 1;
    for (size_t i = t.shape.size(); i-- > 0; step *= t.shape[i]) strides[i] = step;
  }
  int64_t n = 1;
  for (int64_t d : t.shape) n *= d;
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = 0, rest = i;
    for (size_t d = t.shape.size(); d-- > 0; rest /= t.shape[d]) at += rest % t.shape[d] * strides[d];
    const std::byte* p = t.data + size_t(at) * dtype_size(t.dtype);
    if (t.dtype == DType::f32) {
      float x;
      std::memcpy(&x, p, sizeof(x));
      out.push_back(double(x));
    } else if (t.dtype == DType::i64) {
      int64_t x;
      std::memcpy(&x, p, sizeof(x));
      out.push_back(double(x));
    } else {
      uint16_t x;
      std::memcpy(&x, p, sizeof(x));
      out.push_back(double(t.dtype == DType::f16 ? to_float(f16_t{x}) : to_float(bf16_t{x})));
    }
  }
  return out;
}

std::vector<double> counted(int n, int from = 0) {
  std::vector<double> v;
  for (int i = 0; i < n; ++i) v.push_back(from + i);
  return v;
}

class SavedByTorch : public ::testing::TestWithParam<const char*> {};
TEST_P(SavedByTorch, EveryTensorHasItsValues) {
  const TorchFile file(fixture(GetParam()));
  const auto at = [&](const char* name) -> const StoredTensor& { return file.tensors().at(name); };
  EXPECT_EQ(file.tensors().size(), 9u);  // none of the optimizer's
  EXPECT_EQ(values(at("dense")), counted(24));
  EXPECT_EQ(at("dense").shape, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_TRUE(at("dense").strides.empty());
  EXPECT_EQ(at("transposed").strides, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(values(at("transposed")), (std::vector<double>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(at("slice").dtype, DType::f16);
  EXPECT_EQ(values(at("slice")), counted(4, 3));
  EXPECT_EQ(values(at("same_storage")), counted(5, 5));
  EXPECT_EQ(values(at("channels_last")), counted(24));
  EXPECT_EQ(elements_of(at("transposed")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  const std::vector<float> gathered = elements_of(at("channels_last"));
  EXPECT_EQ(std::vector<double>(gathered.begin(), gathered.end()), counted(24));
  EXPECT_FALSE(at("channels_last").strides.empty());
  EXPECT_EQ(values(at("bf16")), (std::vector<double>{1.5, -2}));
  EXPECT_EQ(values(at("scalar")), (std::vector<double>{7}));
  EXPECT_TRUE(at("scalar").shape.empty());
  EXPECT_EQ(values(at("parameter")), (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(at("empty").bytes, 0u);
}
INSTANTIATE_TEST_SUITE_P(All, SavedByTorch, ::testing::Values("checkpoint.ckpt", "legacy.pt"));

TEST(TorchFile, TellsWhatLiesBesideTheTensors) {
  const TorchFile file(fixture("checkpoint.ckpt"));
  EXPECT_EQ(file.tree().find(file.root(), "global_step")->integer, 12345678901);
  EXPECT_EQ(file.tree().find(file.root(), "loss")->real, 0.25);
  EXPECT_EQ(file.tree().find(file.root(), "pytorch-lightning_version")->text, "1.4.2");
  EXPECT_EQ(file.tree().find(file.root(), "nothing"), nullptr);
  const TorchFile embedding(fixture("embedding.pt"));
  ASSERT_EQ(embedding.tensors().size(), 1u);
  EXPECT_EQ(embedding.tensors().begin()->first, "string_to_param.*");
  EXPECT_EQ(values(embedding.tensors().begin()->second), counted(8));
}

TEST(TorchFile, RunsNothing) {
  std::filesystem::remove("/tmp/darkroom-was-here");
  const std::string error = error_of([] { TorchFile file(fixture("evil.ckpt")); });
  EXPECT_TRUE(error.starts_with("3: ")) << error;
  EXPECT_NE(error.find("posix.system"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists("/tmp/darkroom-was-here"));
}

// A small file of our own writing.
std::string written(const TemporaryFolder& folder, TensorFileWriter::Format format) {
  std::string path = folder.file("w");
  TensorFileWriter writer(path, format);
  writer.add("a.weight", DType::f32, {2, 3});
  writer.add("b", DType::f16, {4});
  writer.begin();
  const float a[] = {0, 1, 2, 3, 4, 5};
  const uint16_t b[] = {0, 0x3c00, 0x4000, 0x4200};
  writer.write(a, sizeof(a));
  writer.write(b, sizeof(b));
  writer.commit();
  return path;
}

class BothFormats : public ::testing::TestWithParam<TensorFileWriter::Format> {};
TEST_P(BothFormats, WhatIsWrittenIsRead) {
  TemporaryFolder folder;
  const std::string path = written(folder, GetParam());
  EXPECT_TRUE(TensorFile::recognises(path));
  const TensorFile file(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(values(*file.find("a.weight")), counted(6));
  EXPECT_EQ(values(*file.find("b")), counted(4));
}

TEST_P(BothFormats, CutOffAnywhereIsRefused) {
  TemporaryFolder folder;
  const std::string bytes = read_file(written(folder, GetParam())), path = folder.file("cut");
  for (size_t n = 0; n < bytes.size(); ++n) {
    write_file(path, bytes.substr(0, n));
    const std::string error = error_of([&] { TensorFile file(path); });
    ASSERT_TRUE(error.starts_with("3: " + path)) << n << ": " << error;
    ASSERT_EQ(error.find('\n'), std::string::npos) << n;
  }
}

// Every byte of the headers wrong, in three ways: an error or another valid file, never a crash (the sanitizers watch).
TEST_P(BothFormats, NoByteMakesItCrash) {
  TemporaryFolder folder;
  const std::string bytes = read_file(written(folder, GetParam())), path = folder.file("flipped");
  size_t refused = 0;
  for (size_t n = 0; n < bytes.size(); ++n)
    for (int flip : {0x01, 0x80, 0xff}) {
      std::string wrong = bytes;
      wrong[n] = char(wrong[n] ^ flip);
      write_file(path, wrong);
      const std::string error = error_of([&] {
        const TensorFile file(path);
        for (const auto& [name, t] : file.tensors()) values(t);
      });
      if (!error.empty()) ++refused;
      ASSERT_TRUE(error.empty() || error.starts_with("3: ")) << error;
    }
  EXPECT_GT(refused, bytes.size() / 2);
}
INSTANTIATE_TEST_SUITE_P(All, BothFormats,
                         ::testing::Values(TensorFileWriter::Format::safetensors, TensorFileWriter::Format::torch),
                         [](const auto& info) {
                           return info.param == TensorFileWriter::Format::torch ? "torch" : "safetensors";
                         });

struct Wrong {
  const char* name;
  std::string pickle;
  const char* message;
};
class WrongPickle : public ::testing::TestWithParam<Wrong> {};
TEST_P(WrongPickle, IsRefusedByName) {
  const std::string where = "file.ckpt";
  const std::string error = error_of([&] { parse_pickle(GetParam().pickle, where); });
  EXPECT_TRUE(error.starts_with("3: file.ckpt: pickle, byte ")) << error;
  EXPECT_NE(error.find(GetParam().message), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}
std::string bytes_of(const char* text, size_t n) { return std::string(text, n); }
#define PICKLE(text) bytes_of(text, sizeof(text) - 1)
INSTANTIATE_TEST_SUITE_P(
    All, WrongPickle,
    ::testing::Values(
        Wrong{"empty", "", "cut off"}, Wrong{"no_stop", PICKLE("\x80\x02}"), "cut off"},
        Wrong{"system",
              PICKLE("\x80\x02"
                     "cos\nsystem\nX\x02\0\0\0ls\x85R."),
              "wants os.system"},
        Wrong{"eval", PICKLE("c__builtin__\neval\n."), "wants __builtin__.eval"},
        Wrong{"stack_global", PICKLE("\x80\x04\x8c\x02os\x8c\x06system\x93."), "wants os.system"},
        Wrong{"getattr", PICKLE("cbuiltins\ngetattr\n."), "wants builtins.getattr"},
        Wrong{"name_with_a_line", PICKLE("\x80\x04\x8c\x03o\ns\x8c\x01x\x93."), "wants o?s.x"},
        Wrong{"protocol_0", PICKLE("I1\n."), "opcode 0x49"}, Wrong{"protocol_6", PICKLE("\x80\x06."), "protocol 6"},
        Wrong{"persistent_text", PICKLE("Pabc\n."), "opcode 0x50"},
        Wrong{"extension", PICKLE("\x82\x01."), "opcode 0x82"}, Wrong{"empty_stack", "R", "empty stack"},
        Wrong{"below_the_mark", PICKLE("N(\x85."), "empty stack"}, Wrong{"no_mark", "Nt", "no mark"},
        Wrong{"memo", PICKLE("h\x05."), "memo 5"},
        Wrong{"long_text",
              PICKLE("X\xff\xff\xff\x7f"
                     "a"),
              "2147483647 bytes are wanted"},
        Wrong{"long_text_8",
              PICKLE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
                     "a"),
              "are wanted"},
        Wrong{"calls_no_global", PICKLE("N)R."), "calls what is no global"},
        Wrong{"calls_a_storage", PICKLE("ctorch\nFloatStorage\n)R."), "calls torch FloatStorage"},
        Wrong{"tensor_of_nothing", PICKLE("ctorch._utils\n_rebuild_tensor_v2\n)R."), "wants a storage"},
        Wrong{"appends_to_none", PICKLE("NNa."), "no list"}, Wrong{"sets_item_of_none", PICKLE("NNNs."), "no dict"},
        Wrong{"odd_dict", PICKLE("(Nd."), "without its value"},
        Wrong{"persistent_of_none", PICKLE("NQ."), "no storage"},
        Wrong{"too_many_values", std::string(kMaxPickleValues + 10, 'N'), "more than 2000000 values"},
        Wrong{"too_many_copies", "N" + std::string(4 * kMaxPickleValues + 10, '2'), "more than any checkpoint"},
        Wrong{"too_many_marks", std::string(kMaxPickleValues + 10, '('), "more marks"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Pickle, AListThatContainsItselfEnds) {
  // state_dict = {"a": itself}
  const std::string text = PICKLE("\x80\x02}q\0X\x01\0\0\0ah\0s.");
  EXPECT_EQ(parse_pickle(text, "x").values.size(), 2u);
}

// A zip file around a pickle, with one storage of four zero floats.
std::string torch_zip(const TemporaryFolder& folder, const std::string& pickle) {
  std::string path = folder.file("t.ckpt");
  const auto u16 = [](uint32_t x) { return std::string{char(x), char(x >> 8)}; };
  const auto u32 = [&](uint32_t x) { return u16(x) + u16(x >> 16); };
  std::string file, table;
  for (const auto& [name, data] :
       {std::pair<std::string, std::string>("a/data.pkl", pickle), {"a/data/0", std::string(16, '\0')}}) {
    const std::string sizes = u32(0) + u32(uint32_t(data.size())) + u32(uint32_t(data.size()));
    table += "PK\1\2" + u16(20) + u16(20) + u16(0) + u16(0) + u32(0) + sizes + u16(uint32_t(name.size())) + u16(0) +
             u16(0) + u16(0) + u16(0) + u32(0) + u32(uint32_t(file.size())) + name;
    file += "PK\3\4" + u16(20) + u16(0) + u16(0) + u32(0) + sizes + u16(uint32_t(name.size())) + u16(0) + name + data;
  }
  write_file(path, file + table + "PK\5\6" + u32(0) + u16(2) + u16(2) + u32(uint32_t(table.size())) +
                       u32(uint32_t(file.size())) + u16(0));
  return path;
}

// {"w": _rebuild_tensor_v2(storage 0 of `elements`, offset, sizes, strides)}
std::string tensor_pickle(int elements, const std::string& offset, const std::string& sizes,
                          const std::string& strides) {
  return PICKLE(
             "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(("
             "X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
             "0X\x03\0\0\0cpuK") +
         char(elements) + "tQ" + offset + sizes + strides + PICKLE("\x89NtRs.");
}
std::string k(int x) { return std::string("K") + char(x); }
std::string huge() { return PICKLE("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"); }

TEST(TorchFile, TensorsThatDoNotFitTheirStorage) {
  TemporaryFolder folder;
  const auto error = [&](const std::string& pickle) {
    const std::string path = torch_zip(folder, pickle);
    return error_of([&] { TorchFile file(path); });
  };
  const std::string pair = "\x86", one = "\x85";
  EXPECT_EQ(error(tensor_pickle(4, k(0), k(2) + k(2) + pair, k(2) + k(1) + pair)), "");
  EXPECT_EQ(error(tensor_pickle(4, k(1), k(3) + one, k(1) + one)), "");
  for (const auto& [pickle, message] : {
           std::pair(tensor_pickle(5, k(0), k(4) + one, k(1) + one), "should have 5 elements"),
           {tensor_pickle(4, k(1), k(4) + one, k(1) + one), "reaches beyond"},
           {tensor_pickle(4, k(5), k(1) + one, k(1) + one), "begins at element 5"},
           {tensor_pickle(4, huge(), k(1) + one, k(1) + one), "begins at element"},
           {tensor_pickle(4, k(0), huge() + one, k(1) + one), "reaches beyond"},
           {tensor_pickle(4, k(0), k(2) + one, huge() + one), "reaches beyond"},
           {tensor_pickle(4, k(0), huge() + huge() + pair, k(0) + k(0) + pair), "overflows"},
           {tensor_pickle(4, k(0), k(100) + one, k(0) + one), "repeats"},
           {tensor_pickle(4, k(0), k(2) + k(2) + pair, k(1) + one), "2 sizes and 1 strides"},
           {tensor_pickle(4, k(0), std::string("N") + one, k(1) + one), "no whole number"},
       }) {
    const std::string got = error(pickle);
    EXPECT_TRUE(got.starts_with("3: ")) << got;
    EXPECT_NE(got.find(message), std::string::npos) << got << " / " << message;
    EXPECT_NE(got.find("tensor w"), std::string::npos) << got;
  }
}

TEST(TorchFile, AMillionTensors) {
  TemporaryFolder folder;
  // One tensor, remembered as 0, under a million names.
  std::string pickle = tensor_pickle(4, k(0), k(4) + "\x85", k(1) + "\x85");
  const size_t end = pickle.size() - 2;  // the tensor is made; then come "set item" and "stop"
  std::string names = "q";
  names += '\0';
  for (int i = 0; i < 1'000'000; ++i) {
    const std::string name = std::to_string(i);
    names += std::string("sX") + char(name.size()) + std::string(3, '\0') + name + 'h' + '\0';
  }
  pickle.insert(end, names);
  const std::string path = torch_zip(folder, pickle);
  const std::string error = error_of([&] { TorchFile file(path); });
  EXPECT_TRUE(error.starts_with("3: " + path)) << error;
  EXPECT_NE(error.find("has more than 100000 tensors"), std::string::npos) << error;
}

// The form before torch 1.6: five pickles, then the storages.
TEST(TorchFile, TheOldFormCutOffAnywhere) {
  TemporaryFolder folder;
  const std::string bytes = read_file(fixture("legacy.pt")), path = folder.file("cut");
  for (size_t n = 0; n < bytes.size(); ++n) {
    write_file(path, bytes.substr(0, n));
    const std::string error = error_of([&] { TorchFile file(path); });
    ASSERT_TRUE(error.starts_with("3: " + path)) << n << " of " << bytes.size() << ": " << error;
    ASSERT_EQ(error.find('\n'), std::string::npos) << n;
  }
}

TEST(ZipArchive, RefusesWhatTorchNeverWrites) {
  TemporaryFolder folder;
  const std::string bytes = read_file(torch_zip(folder, PICKLE("\x80\x02}."))), path = folder.file("z.ckpt");
  const size_t first = bytes.find("PK\1\2"), second = bytes.find("PK\1\2", first + 1), end = bytes.find("PK\5\6");
  const auto error = [&](const std::vector<std::pair<size_t, std::string>>& edits) {
    std::string wrong = bytes;
    for (const auto& [at, text] : edits) wrong.replace(at, text.size(), text);
    write_file(path, wrong);
    return error_of([&] { TorchFile file(path); });
  };
  EXPECT_EQ(error({}), "");
  EXPECT_NE(error({{first + 8, "\1"}}).find("encrypted"), std::string::npos);
  EXPECT_NE(error({{first + 10, "\x08"}}).find("compressed"), std::string::npos);
  EXPECT_NE(error({{first + 24, "\x09"}}).find("said to have 9"), std::string::npos);
  EXPECT_NE(error({{second + 42, std::string(4, '\0')}}).find("a/data/0 is not at 0"), std::string::npos);
  EXPECT_NE(error({{end + 4, "\1"}}).find("volumes"), std::string::npos);
  EXPECT_NE(error({{end + 10, "\xff\xff"}}).find("members"), std::string::npos);
  EXPECT_NE(error({{end + 16, "\xff\xff\xff\x7f"}}).find("beyond the end"), std::string::npos);
  EXPECT_NE(error({{first + 46 + 2, "dxta.pkl"}}).find("is not at"), std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing
