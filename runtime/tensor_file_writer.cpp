#include "runtime/tensor_file_writer.h"

#include <zlib.h>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr uint64_t kAlignment = 64;  // of a tensor's bytes
constexpr const char* kFolder = "archive/";
constexpr size_t kLocalBytes = 30, kZip64Bytes = 20;
constexpr uint16_t kZip64Version = 45;
constexpr uint32_t kIn64Bits = 0xffffffffu;

struct TypeNames {
  DType dtype;
  const char *safetensors, *storage;
};
const TypeNames& names_of(DType dtype) {
  static constexpr TypeNames kNames[] = {{DType::f32, "F32", "FloatStorage"},
                                         {DType::f16, "F16", "HalfStorage"},
                                         {DType::bf16, "BF16", "BFloat16Storage"}};
  for (const TypeNames& n : kNames)
    if (n.dtype == dtype) return n;
  throw internal_error("tensor file: {} is no type of weights", dtype_name(dtype));
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Pickle opcodes.
void put_text(std::string& out, const std::string& text) {  // BINUNICODE
  out += 'X';
  put(out, uint32_t(text.size()));
  out += text;
}
void put_global(std::string& out, const std::string& module, const std::string& name) {  // GLOBAL
  out += "c" + module + "\n" + name + "\n";
}
void put_integer(std::string& out, int64_t x) {  // LONG1
  out += "\x8a\x08";
  put(out, x);
}

}  // namespace

void TensorFileWriter::add(std::string name, DType dtype, std::vector<int64_t> shape) {
  StoredTensor t;
  t.dtype = dtype;
  t.dtype_text = names_of(dtype).safetensors;
  t.bytes = dtype_size(dtype);
  for (int64_t d : shape) t.bytes *= size_t(d);
  t.shape = std::move(shape);
  names_.push_back(std::move(name));
  tensors_.push_back(std::move(t));
}

void TensorFileWriter::begin() {
  if (format_ == Format::safetensors)
    begin_safetensors();
  else
    begin_torch();
}

void TensorFileWriter::begin_safetensors() {
  nlohmann::json header = nlohmann::json::object();
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t at = 0;
  for (size_t i = 0; i < names_.size(); ++i) {
    header[names_[i]] = {{"dtype", tensors_[i].dtype_text},
                         {"shape", tensors_[i].shape},
                         {"data_offsets", {at, at + tensors_[i].bytes}}};
    offsets_.push_back(at);
    at += tensors_[i].bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  file_.write_at(0, &size, sizeof(size));
  file_.write_at(sizeof(size), text.data(), text.size());
  for (uint64_t& offset : offsets_) offset += sizeof(size) + size;
  end_ = sizeof(size) + size + at;
}

// {"state_dict": {name: tensor}}
std::string TensorFileWriter::pickle() const {
  std::string p = "\x80\x02}";
  put_text(p, "state_dict");
  put_global(p, "collections", "OrderedDict");
  p += ")R(";
  for (size_t i = 0; i < names_.size(); ++i) {
    const StoredTensor& t = tensors_[i];
    const int64_t elements = int64_t(t.bytes / dtype_size(t.dtype));
    put_text(p, names_[i]);
    put_global(p, "torch._utils", "_rebuild_tensor_v2");
    p += "((";
    put_text(p, "storage");
    put_global(p, "torch", names_of(t.dtype).storage);
    put_text(p, std::to_string(i));
    put_text(p, "cpu");
    put_integer(p, elements);
    p += "tQ";
    put_integer(p, 0);
    p += '(';
    for (int64_t d : t.shape) put_integer(p, d);
    p += "t(";
    int64_t stride = elements;
    for (int64_t d : t.shape) put_integer(p, stride /= d);
    p += "t\x89";  // requires no gradient
    put_global(p, "collections", "OrderedDict");
    p += ")RtR";
  }
  return p + "us.";
}

// A member whose data begins at a multiple of `alignment`; returns where it ends.
uint64_t TensorFileWriter::place_member(std::string name, uint64_t at, uint64_t size, uint64_t alignment) {
  const uint64_t header = kLocalBytes + name.size() + kZip64Bytes;
  const uint64_t data = (at + header + alignment - 1) / alignment * alignment;
  members_.push_back({std::move(name), data - header, size, 0});
  return data + size;
}

void TensorFileWriter::begin_torch() {
  const std::string text = pickle(), version = "3\n";
  uint64_t at = place_member(kFolder + std::string("data.pkl"), 0, text.size(), 1);
  at = place_member(kFolder + std::string("version"), at, version.size(), 1);
  for (size_t i = 0; i < names_.size(); ++i) {
    at = place_member(kFolder + fmt::format("data/{}", i), at, tensors_[i].bytes, kAlignment);
    offsets_.push_back(at - tensors_[i].bytes);
  }
  end_ = at;
  const std::string* small[] = {&text, &version};
  for (size_t i = 0; i < 2; ++i) {
    Member& m = members_[i];
    m.crc = uint32_t(crc32(0, reinterpret_cast<const Bytef*>(small[i]->data()), uInt(small[i]->size())));
    file_.write_at(m.local + kLocalBytes + m.name.size() + kZip64Bytes, small[i]->data(), small[i]->size());
  }
}

void TensorFileWriter::write(const void* data, size_t bytes) {
  if (current_ == tensors_.size() || bytes > tensors_[current_].bytes - written_)
    throw internal_error("tensor file: more bytes than were declared");
  file_.write_at(offsets_[current_] + written_, data, bytes);
  if (format_ == Format::torch) {
    uint32_t& crc = members_[current_ + 2].crc;
    const auto* p = static_cast<const Bytef*>(data);
    for (size_t at = 0; at < bytes; at += size_t(1) << 30)
      crc = uint32_t(crc32(crc, p + at, uInt(std::min(bytes - at, size_t(1) << 30))));
  }
  written_ += bytes;
  if (written_ < tensors_[current_].bytes) return;
  written_ = 0;
  ++current_;
}

void TensorFileWriter::commit() {
  if (current_ != tensors_.size())
    throw internal_error("tensor file: {} tensors of {} are written", current_, tensors_.size());
  if (format_ == Format::torch) commit_torch();
  file_.commit();
}

// Headers, all with sizes of 64 bits, and the table of contents at the end.
void TensorFileWriter::commit_torch() {
  std::string table;
  const auto common = [](std::string& out, const Member& m) {
    put<uint16_t>(out, kZip64Version);
    put<uint16_t>(out, 0);  // flags
    put<uint16_t>(out, 0);  // stored
    put<uint32_t>(out, 0);  // time and date
    put<uint32_t>(out, m.crc);
    put<uint32_t>(out, kIn64Bits);
    put<uint32_t>(out, kIn64Bits);
    put<uint16_t>(out, uint16_t(m.name.size()));
  };
  for (const Member& m : members_) {
    std::string local = "PK\3\4";
    common(local, m);
    put<uint16_t>(local, kZip64Bytes);
    local += m.name;
    put<uint16_t>(local, 1);
    put<uint16_t>(local, 16);
    put<uint64_t>(local, m.size);
    put<uint64_t>(local, m.size);
    file_.write_at(m.local, local.data(), local.size());

    table += "PK\1\2";
    put<uint16_t>(table, kZip64Version);
    common(table, m);
    put<uint16_t>(table, 28);  // extra field
    put<uint16_t>(table, 0);   // comment
    put<uint16_t>(table, 0);   // volume
    put<uint16_t>(table, 0);   // attributes
    put<uint32_t>(table, 0);
    put<uint32_t>(table, kIn64Bits);
    table += m.name;
    put<uint16_t>(table, 1);
    put<uint16_t>(table, 24);
    put<uint64_t>(table, m.size);
    put<uint64_t>(table, m.size);
    put<uint64_t>(table, m.local);
  }
  std::string end = "PK\6\6";
  put<uint64_t>(end, 44);
  put<uint16_t>(end, kZip64Version);
  put<uint16_t>(end, kZip64Version);
  put<uint64_t>(end, 0);  // volumes
  put<uint64_t>(end, members_.size());
  put<uint64_t>(end, members_.size());
  put<uint64_t>(end, table.size());
  put<uint64_t>(end, end_);
  end += "PK\6\7";
  put<uint32_t>(end, 0);
  put<uint64_t>(end, end_ + table.size());
  put<uint32_t>(end, 1);
  end += "PK\5\6";
  put<uint32_t>(end, 0);
  put<uint16_t>(end, 0xffff);
  put<uint16_t>(end, 0xffff);
  put<uint32_t>(end, kIn64Bits);
  put<uint32_t>(end, kIn64Bits);
  put<uint16_t>(end, 0);
  file_.write_at(end_, table.data(), table.size());
  file_.write_at(end_ + table.size(), end.data(), end.size());
}

}  // namespace darkroom
