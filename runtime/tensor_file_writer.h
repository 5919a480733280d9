// Writes named tensors as a .safetensors file, or as a .ckpt file that torch.load() reads: a zip file with one pickle.
#pragma once

#include <string>
#include <vector>

#include "runtime/atomic_file.h"
#include "runtime/tensor.h"

namespace darkroom {

class TensorFileWriter {
 public:
  enum class Format : uint8_t { safetensors, torch };

  TensorFileWriter(const std::string& path, Format format) : file_(path), format_(format) {}

  // Declare everything first: f32, f16 or bf16, dense. Names are not checked for being different.
  void add(std::string name, DType dtype, std::vector<int64_t> shape);
  // Lays the file out. Nothing may be added after it.
  void begin();
  // The next bytes of the tensor that is being written, in the order of declaration.
  void write(const void* data, size_t bytes);
  // Then the file appears under its name. Throws internal_error where tensors are missing, file_error where the disk is full.
  void commit();

 private:
  struct Member {  // of the zip file
    std::string name;
    uint64_t local = 0, size = 0;
    uint32_t crc = 0;
  };
  void begin_safetensors();
  void begin_torch();
  std::string pickle() const;
  uint64_t place_member(std::string name, uint64_t at, uint64_t size, uint64_t alignment);
  void commit_torch();

  AtomicFile file_;
  Format format_;
  std::vector<std::string> names_;
  std::vector<StoredTensor> tensors_;
  std::vector<uint64_t> offsets_;
  std::vector<Member> members_;  // data.pkl, version, then the tensors'
  uint64_t end_ = 0;
  size_t current_ = 0;
  uint64_t written_ = 0;
};

}  // namespace darkroom
