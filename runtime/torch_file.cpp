#include "runtime/torch_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "kernels/core/error.h"
#include "runtime/zip_archive.h"

namespace darkroom {

namespace {

using Kind = PickleValue::Kind;

// PROTO 2, LONG1 of 10 bytes: 0x1950a86a20f9469cfc6c.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
constexpr int64_t kLegacyProtocol = 1001;
constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxDimensions = 16;
constexpr int kMaxDepth = 16;

size_t element_bits(std::string_view dtype_text) {
  constexpr std::pair<std::string_view, size_t> kBits[] = {{"F64", 64}, {"I64", 64},  {"F32", 32}, {"I32", 32},
                                                           {"F16", 16}, {"BF16", 16}, {"I16", 16}, {"I8", 8},
                                                           {"U8", 8},   {"BOOL", 8}};
  for (const auto& [name, bits] : kBits)
    if (name == dtype_text) return bits;
  throw internal_error("a storage of type {}", dtype_text);
}

}  // namespace

bool TorchFile::begins_like_one(std::string_view text) {
  return ZipArchive::begins_like_one(text) || text.starts_with(kLegacyMagic);
}

TorchFile::TorchFile(const std::string& path) : file_(path) {
  if (ZipArchive::begins_like_one(file_.text()))
    open_zip();
  else if (file_.text().starts_with(kLegacyMagic))
    open_legacy();
  else
    throw file_error("{}: is no file of torch (it begins otherwise)", path);
  collect();
}

void TorchFile::open_zip() {
  const ZipArchive zip({file_.data(), file_.size()}, path());
  constexpr std::string_view kPickle = "data.pkl";
  std::string folder;
  size_t found = 0;
  for (const auto& [name, member] : zip.members())
    if (name == kPickle || name.ends_with("/data.pkl")) {
      folder = name.substr(0, name.size() - kPickle.size());
      ++found;
    }
  if (found != 1)
    throw file_error("{}: is a zip file with {} data.pkl; one that torch wrote has one", path(),
                     found ? "several" : "no");
  if (zip.find(folder + "byteorder")) {
    const auto order = zip.stored(folder + "byteorder");
    if (std::string_view(reinterpret_cast<const char*>(order.data()), order.size()) != "little")
      throw file_error("{}: was written on a big-endian machine", path());
  }
  const auto pickle = zip.stored(folder + std::string(kPickle));
  tree_ = parse_pickle({reinterpret_cast<const char*>(pickle.data()), pickle.size()}, path());
  for (const PickleValue& v : tree_.values) {
    if (v.kind != Kind::storage || storages_.contains(v.text)) continue;
    storages_.emplace(std::string(v.text), zip.stored(folder + "data/" + std::string(v.text)));
  }
}

// Pickles: magic number, protocol, the machine's properties, the object, the storages' keys. Then of each storage in that order the
// number of elements (u64) and the elements.
void TorchFile::open_legacy() {
  std::string_view rest = file_.text();
  const auto next = [&] {
    PickleTree tree = parse_pickle(rest, path());
    rest.remove_prefix(tree.bytes);
    return tree;
  };
  next();
  const PickleTree protocol = next(), system = next();
  const PickleValue* little = system.find(system[system.root], "little_endian");
  if (protocol[protocol.root].integer != kLegacyProtocol || !little)
    throw file_error("{}: is a file of torch in a form that is not known", path());
  if (!little->integer) throw file_error("{}: was written on a big-endian machine", path());
  tree_ = next();
  const PickleTree keys = next();
  std::map<std::string_view, const PickleValue*> known;
  for (const PickleValue& v : tree_.values)
    if (v.kind == Kind::storage) known.emplace(v.text, &v);
  for (PickleId id : keys[keys.root].items) {
    const std::string_view key = keys[id].text;
    const auto found = known.find(key);
    uint64_t elements = 0;
    if (found == known.end() || rest.size() < sizeof(elements))
      throw file_error("{}: storage {} is cut off, or nothing refers to it", path(), key);
    std::memcpy(&elements, rest.data(), sizeof(elements));
    rest.remove_prefix(sizeof(elements));
    const size_t size = element_bits(found->second->dtype_text) / 8;
    if (elements > rest.size() / size)
      throw file_error("{}: storage {} has {} elements, the file has {} bytes left: truncated", path(), key, elements,
                       rest.size());
    const auto* data = reinterpret_cast<const std::byte*>(rest.data());
    if (!storages_.emplace(std::string(key), std::span(data, size_t(elements) * size)).second)
      throw file_error("{}: storage {} is there twice", path(), key);
    rest.remove_prefix(size_t(elements) * size);
  }
}

StoredTensor TorchFile::tensor(const PickleValue& value, const std::string& name) const {
  const auto fail = [&](const std::string& what) { return file_error("{}: tensor {}: {}", path(), name, what); };
  const PickleValue& storage = tree_[value.items[0]];
  const auto found = storages_.find(storage.text);
  if (found == storages_.end()) throw fail(fmt::format("its storage {} is not in the file", storage.text));
  const std::span<const std::byte> bytes = found->second;
  const size_t size = element_bits(storage.dtype_text) / 8;
  const int64_t capacity = int64_t(bytes.size() / size);
  if (storage.integer > capacity)
    throw fail(fmt::format("its storage {} should have {} elements and has {} bytes", storage.text, storage.integer,
                           bytes.size()));

  StoredTensor t;
  t.dtype_text = storage.dtype_text;
  t.dtype = storage.dtype;
  const std::vector<PickleId>&sizes = tree_[value.items[2]].items, &strides = tree_[value.items[3]].items;
  if (sizes.size() != strides.size() || sizes.size() > kMaxDimensions)
    throw fail(fmt::format("has {} sizes and {} strides", sizes.size(), strides.size()));
  const int64_t offset = tree_[value.items[1]].integer;
  if (offset < 0 || offset > capacity) throw fail(fmt::format("begins at element {} of {}", offset, capacity));
  // The last element's index must lie within the storage.
  int64_t last = offset, dense = 1;
  const auto is_zero = [&](PickleId id) { return tree_[id].kind == Kind::integer && tree_[id].integer == 0; };
  const bool empty = std::ranges::any_of(sizes, is_zero);
  bool is_dense = true;
  for (size_t i = sizes.size(); i-- > 0;) {
    const PickleValue &n = tree_[sizes[i]], &stride = tree_[strides[i]];
    if (n.kind != Kind::integer || stride.kind != Kind::integer || n.integer < 0 || stride.integer < 0)
      throw fail("a size or a stride is no whole number");
    if (!empty && n.integer > 1 && stride.integer > (capacity - last) / (n.integer - 1))
      throw fail(fmt::format("reaches beyond its storage {} of {} elements", storage.text, capacity));
    if (!empty && n.integer > 1) last += (n.integer - 1) * stride.integer;
    if (n.integer > 1 && stride.integer != dense) is_dense = false;
    if (n.integer > 0 && dense > std::numeric_limits<int64_t>::max() / 8 / n.integer) throw fail("its shape overflows");
    dense *= n.integer;
    t.shape.insert(t.shape.begin(), n.integer);
    t.strides.insert(t.strides.begin(), stride.integer);
  }
  if (!empty && last >= capacity)
    throw fail(fmt::format("reaches beyond its storage {} of {} elements", storage.text, capacity));
  // A stride of 0 repeats elements: such a tensor may be larger than the file.
  if (dense > capacity) throw fail("repeats elements of its storage, which no weight does");
  if (is_dense) t.strides.clear();
  t.data = bytes.data() + size_t(offset) * size;
  t.bytes = empty ? 0 : size_t(last - offset + 1) * size;
  return t;
}

// Walks dicts, and the parameters of a ParameterDict; each container once, so that one that contains itself ends.
void TorchFile::collect() {
  const PickleValue* top = &root();
  if (const PickleValue* state = tree_.find(*top, "state_dict")) top = state;
  if (top->kind != Kind::dict)
    throw file_error("{}: holds no dict of tensors{}", path(), top->kind == Kind::object ? ", but an object" : "");
  std::set<const PickleValue*> seen;
  const auto walk = [&](const auto& self, const PickleValue& dict, const std::string& prefix, int depth) -> void {
    if (depth > kMaxDepth || !seen.insert(&dict).second) return;
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleValue &key = tree_[dict.items[i]], *value = &tree_[dict.items[i + 1]];
      if (key.kind != Kind::string) continue;
      const std::string name = prefix + std::string(key.text);
      if (value->kind == Kind::object && value->items.size() == 3)  // global, arguments, state
        if (const PickleValue* parameters = tree_.find(tree_[value->items[2]], "_parameters")) value = parameters;
      if (value->kind == Kind::dict) self(self, *value, name + ".", depth + 1);
      if (value->kind != Kind::tensor) continue;
      if (tensors_.size() == kMaxTensors)
        throw file_error("{}: has more than {} tensors, which no model has", path(), kMaxTensors);
      if (!tensors_.emplace(name, tensor(*value, name)).second)
        throw file_error("{}: tensor {} is there twice", path(), name);
    }
  };
  walk(walk, *top, "", 0);
}

}  // namespace darkroom
