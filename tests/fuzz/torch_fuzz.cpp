// Bytes as what torch.save() writes: a zip file with a pickle in it, or pickles alone. Where the first byte is 'p', the others are
// a pickle by themselves: most changes of a zip file are refused before its pickle is looked at.
#include "runtime/torch_file.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  if (size > 0 && data[0] == 'p') {
    const std::string_view pickle = fuzzing::text_of(data + 1, size - 1);
    fuzzing::run([&] {
      const PickleTree tree = parse_pickle(pickle, "pickle");
      fuzzing::require(tree.values.size() <= 16 * size + 16, "more values than a pickle of this size can name");
      for (const PickleValue& v : tree.values)
        for (PickleId item : v.items) fuzzing::require(item < tree.values.size(), "an item that is no value");
    });
    return 0;
  }
  const fuzzing::MemoryFile file(fuzzing::text_of(data, size));
  fuzzing::run([&] {
    const TorchFile torch(file.path());
    for (const auto& [name, tensor] : torch.tensors()) {
      if (tensor.dtype != DType::f32 && tensor.dtype != DType::f16 && tensor.dtype != DType::bf16) continue;
      fuzzing::require(elements_of(tensor).size() * dtype_size(tensor.dtype) <= size, "a tensor larger than its file");
    }
  });
  return 0;
}
