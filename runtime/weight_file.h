// The .sdw weight file: tensors, and the texts that belong to them, in one file that is used by mmap.
// docs/weight-format.md specifies it byte by byte; this is its reader and writer. They know nothing of models.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"
#include "runtime/atomic_file.h"
#include "runtime/mapped_file.h"

namespace darkroom {

inline constexpr size_t kWeightAlignment = 64;       // of a tensor
inline constexpr size_t kComponentAlignment = 4096;  // of a component's first tensor

// The numbers are those of the file.
enum class WeightEncoding : uint16_t {
  plain = 0,  // elements of the dtype in row-major order
  q8 = 1,     // runtime/q8.h; the dtype, f16, is that of the scales
};

struct WeightFileTensor {
  std::string name;  // within its component
  size_t component = 0;
  WeightEncoding encoding = WeightEncoding::plain;
  DType dtype = DType::none;
  Shape shape;
  uint64_t offset = 0, bytes = 0, checksum = 0;
};

class WeightFile {
 public:
  // Maps the file and checks header, directory and trailer: everything but the tensors' own bytes. Throws file_error saying
  // what is wrong and where.
  explicit WeightFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }
  const std::vector<std::string>& components() const { return components_; }
  // In the order in which they lie in the file.
  const std::vector<WeightFileTensor>& tensors() const { return tensors_; }
  // By "component/name"; null where there is none.
  const WeightFileTensor* find(std::string_view name) const;
  const std::byte* data(const WeightFileTensor& t) const { return file_.data() + t.offset; }
  void release(const WeightFileTensor& t) const { file_.release(data(t), t.bytes); }

  std::vector<std::string> texts() const;
  // Null where there is none.
  const std::string_view* text(std::string_view name) const;

  // Reads all of a tensor's bytes. Throws file_error where their checksum is not the directory's.
  void verify(const WeightFileTensor& t) const;

 private:
  MappedFile file_;
  std::vector<std::string> components_;
  std::vector<WeightFileTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string_view, std::less<>> texts_;
};

// Writes one. Declare everything first, then hand over each tensor's bytes in the order of declaration.
class WeightFileWriter {
 public:
  explicit WeightFileWriter(const std::string& path) : file_(path) {}

  void add_text(std::string name, std::string text);
  // A component's tensors are declared one after the other.
  void add_tensor(const std::string& component, std::string name, DType dtype, const Shape& shape,
                  WeightEncoding encoding = WeightEncoding::plain);

  // Lays the file out and writes the texts. Nothing may be added after it.
  void begin();
  // The next bytes of the tensor that is being written; a tensor ends when all of its bytes are there.
  void write(const void* data, size_t bytes);
  // Directory, header, trailer; then the file appears under its name. Throws internal_error where tensors are missing.
  void commit();

  uint64_t total_bytes() const { return end_; }

 private:
  struct Text {
    std::string name, text;
    uint64_t offset = 0;
  };

  AtomicFile file_;
  std::vector<Text> texts_;
  std::vector<std::string> components_;
  std::vector<WeightFileTensor> tensors_;
  uint64_t directory_bytes_ = 0, end_ = 0;
  size_t current_ = 0;
  uint64_t written_ = 0;
  std::shared_ptr<void> hash_;
};

}  // namespace darkroom
