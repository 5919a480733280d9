#include "runtime/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

using Kind = PickleValue::Kind;

// What calling a known global makes.
enum class Makes : uint8_t {
  dict,       // (): an empty one; (pairs) is not written by torch
  tensor,     // (storage, offset, sizes, strides, ...)
  parameter,  // (tensor, ...): the tensor
  storage,    // it is never called; it stands in a persistent id
  object,     // something that we keep as it is and do not look into
};

struct Global {
  std::string_view name;  // "module name"
  Makes makes;
  std::string_view dtype_text = "";
  DType dtype = DType::none;
};

// Everything that state dicts of Stable Diffusion, its training loops and textual inversions hold.
constexpr Global kGlobals[] = {
    {"collections OrderedDict", Makes::dict},
    {"torch._utils _rebuild_tensor", Makes::tensor},
    {"torch._utils _rebuild_tensor_v2", Makes::tensor},
    {"torch._utils _rebuild_parameter", Makes::parameter},
    {"torch FloatStorage", Makes::storage, "F32", DType::f32},
    {"torch HalfStorage", Makes::storage, "F16", DType::f16},
    {"torch BFloat16Storage", Makes::storage, "BF16", DType::bf16},
    {"torch DoubleStorage", Makes::storage, "F64", DType::f64},
    {"torch LongStorage", Makes::storage, "I64", DType::i64},
    {"torch IntStorage", Makes::storage, "I32", DType::i32},
    {"torch ShortStorage", Makes::storage, "I16"},
    {"torch CharStorage", Makes::storage, "I8"},
    {"torch ByteStorage", Makes::storage, "U8", DType::u8},
    {"torch BoolStorage", Makes::storage, "BOOL"},
    {"torch Size", Makes::object},
    {"torch float32", Makes::object},
    {"torch float16", Makes::object},
    {"torch device", Makes::object},
    {"torch.nn.modules.container ParameterDict", Makes::object},
    {"numpy dtype", Makes::object},
    {"numpy.core.multiarray scalar", Makes::object},
    {"numpy._core.multiarray scalar", Makes::object},
    {"_codecs encode", Makes::object},
    {"__builtin__ set", Makes::object},
    {"builtins set", Makes::object},
    {"pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint", Makes::object},
    {"pytorch_lightning.utilities.argparse_utils _gpus_arg_default", Makes::object},
};

// For messages: short, and on one line.
std::string shown(std::string_view text) {
  std::string s(text.substr(0, 80));
  for (char& c : s)
    if (uint8_t(c) < 0x20 || uint8_t(c) >= 0x7f) c = '?';
  return s + (text.size() > 80 ? "..." : "");
}

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& where) : text_(pickle), where_(where) {}

  PickleTree run() {
    while (!stopped_) step();
    tree_.bytes = at_;
    return std::move(tree_);
  }

 private:
  template <typename... Args>
  Error bad(fmt::format_string<Args...> format, Args&&... args) const {
    return file_error("{}: pickle, byte {}: {}", where_, opcode_at_, fmt::format(format, std::forward<Args>(args)...));
  }

  // --- the pickle's bytes
  std::string_view take(uint64_t bytes) {
    if (bytes > text_.size() - at_)
      throw bad("is cut off: {} bytes are wanted, {} are left", bytes, text_.size() - at_);
    const std::string_view part = text_.substr(at_, size_t(bytes));
    at_ += size_t(bytes);
    return part;
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view line() {
    const size_t end = text_.find('\n', at_);
    if (end == std::string_view::npos) throw bad("is cut off within a line");
    const std::string_view part = text_.substr(at_, end - at_);
    at_ = end + 1;
    return part;
  }

  // --- values and the stack
  PickleId make(PickleValue value) {
    if (tree_.values.size() == kMaxPickleValues)
      throw bad("has more than {} values, which no checkpoint has", kMaxPickleValues);
    tree_.values.push_back(std::move(value));
    return PickleId(tree_.values.size() - 1);
  }
  void push(PickleId id) {
    if (++pushes_ > 4 * kMaxPickleValues) throw bad("does more than any checkpoint's pickle does");
    stack_.push_back(id);
  }
  void push_text(Kind kind, std::string_view text) {
    PickleValue v;
    v.kind = kind;
    v.text = text;
    push(make(std::move(v)));
  }
  void push_integer(Kind kind, int64_t integer) {
    PickleValue v;
    v.kind = kind;
    v.integer = integer;
    push(make(std::move(v)));
  }
  // The stack's base is the last mark: a pickle cannot reach below it.
  size_t base() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleId pop() {
    if (stack_.size() <= base()) throw bad("takes a value from an empty stack");
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  PickleId top() {
    if (stack_.size() <= base()) throw bad("looks at an empty stack");
    return stack_.back();
  }
  std::vector<PickleId> pop_to_mark() {
    if (marks_.empty()) throw bad("there is no mark");
    const auto begin = stack_.begin() + std::ptrdiff_t(marks_.back());
    std::vector<PickleId> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_sequence(Kind kind, std::vector<PickleId> items) {
    PickleValue v;
    v.kind = kind;
    v.items = std::move(items);
    push(make(std::move(v)));
  }
  void push_tuple(size_t count) {
    std::vector<PickleId> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push_sequence(Kind::tuple, std::move(items));
  }
  PickleValue& value(PickleId id) { return tree_.values[id]; }

  // --- what opcodes do
  void append(PickleId to, std::span<const PickleId> items) {
    PickleValue& list = value(to);
    if (list.kind != Kind::list && list.kind != Kind::object) throw bad("appends to what is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }
  void set_items(PickleId to, std::span<const PickleId> items) {
    PickleValue& dict = value(to);
    if (dict.kind != Kind::dict && dict.kind != Kind::object) throw bad("sets an item of what is no dict");
    if (items.size() % 2 != 0) throw bad("sets a key without its value");
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  void push_global(std::string_view module, std::string_view name) {
    const auto* known = std::ranges::find_if(kGlobals, [&](const Global& g) {
      return g.name.size() == module.size() + 1 + name.size() && g.name.starts_with(module) && g.name.ends_with(name) &&
             g.name[module.size()] == ' ';
    });
    if (known == std::end(kGlobals))
      throw bad("wants {}.{}, which is not among the {} things that a checkpoint is made of: refused, not run",
                shown(module), shown(name), std::size(kGlobals));
    PickleValue v;
    v.kind = Kind::global;
    v.text = known->name;
    v.integer = int64_t(known - kGlobals);
    push(make(std::move(v)));
  }
  const Global& global(PickleId id, const char* what) {
    if (value(id).kind != Kind::global) throw bad("{} what is no global", what);
    return kGlobals[size_t(value(id).integer)];
  }

  void reduce() {
    const PickleId arguments = pop(), function = pop();
    const Global& known = global(function, "calls");
    if (value(arguments).kind != Kind::tuple) throw bad("calls {} without a tuple", known.name);
    const std::span<const PickleId> items = value(arguments).items;  // stays where it is when values are added
    const auto is = [&](size_t i, Kind kind) { return i < items.size() && value(items[i]).kind == kind; };
    switch (known.makes) {
      case Makes::dict:
        if (!items.empty()) throw bad("makes a {} from something", known.name);
        return push_sequence(Kind::dict, {});
      case Makes::tensor:
        if (!is(0, Kind::storage) || !is(1, Kind::integer) || !is(2, Kind::tuple) || !is(3, Kind::tuple))
          throw bad("{} wants a storage, an offset, sizes and strides", known.name);
        return push_sequence(Kind::tensor, {items.begin(), items.begin() + 4});
      case Makes::parameter:
        if (!is(0, Kind::tensor)) throw bad("{} wants a tensor", known.name);
        return push(items[0]);
      case Makes::storage:
        throw bad("calls {}", known.name);
      case Makes::object:
        return push_sequence(Kind::object, {function, arguments});
    }
  }

  // cls.__new__(cls, *args): known ones become objects.
  void new_object() {
    const PickleId arguments = pop(), cls = pop();
    const Global& known = global(cls, "makes an instance of");
    if (known.makes == Makes::dict) return push_sequence(Kind::dict, {});
    if (known.makes != Makes::object) throw bad("makes an instance of {}", known.name);
    push_sequence(Kind::object, {cls, arguments});
  }

  // Attributes of a dict (its _metadata) are nothing to us; an object keeps its state.
  void build() {
    const PickleId state = pop();
    PickleValue& object = value(top());
    if (object.kind == Kind::object)
      object.items.push_back(state);
    else if (object.kind != Kind::dict && object.kind != Kind::tensor)
      throw bad("gives a state to what has none");
  }

  // ('storage', torch.FloatStorage, key, location, elements)
  void persistent_id() {
    const PickleId id = pop();
    const std::span<const PickleId> items = value(id).items;
    const auto is = [&](size_t i, Kind kind) { return i < items.size() && value(items[i]).kind == kind; };
    if (value(id).kind != Kind::tuple || !is(0, Kind::string) || value(items[0]).text != "storage" ||
        !is(1, Kind::global) || !is(2, Kind::string) || !is(4, Kind::integer))
      throw bad("refers to what is no storage of torch");
    if (items.size() > 5 && !is(5, Kind::none)) throw bad("refers to a view of a storage, as torch wrote before 0.4");
    const Global& type = global(items[1], "refers to");
    if (type.makes != Makes::storage) throw bad("refers to a storage of type {}", type.name);
    PickleValue v;
    v.kind = Kind::storage;
    v.dtype = type.dtype;
    v.dtype_text = type.dtype_text;
    v.text = value(items[2]).text;
    v.integer = value(items[4]).integer;
    if (v.integer < 0) throw bad("storage {} has {} elements", shown(v.text), v.integer);
    push(make(std::move(v)));
  }

  // A little-endian two's complement of any length; what does not fit into 64 bits (torch's magic number) keeps its bytes.
  void long_integer(uint64_t bytes) {
    const std::string_view digits = take(bytes);
    if (bytes > 8) return push_text(Kind::bytes, digits);
    uint64_t x = 0;
    for (size_t i = 0; i < digits.size(); ++i) x |= uint64_t(uint8_t(digits[i])) << (8 * i);
    if (bytes > 0 && bytes < 8 && (digits.back() & 0x80)) x |= ~uint64_t(0) << (8 * bytes);
    push_integer(Kind::integer, int64_t(x));
  }

  void put(uint32_t key) { memo_[key] = top(); }
  void get(uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) throw bad("memo {} is empty", key);
    push(found->second);
  }

  void step();

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0, opcode_at_ = 0;
  size_t pushes_ = 0;
  bool stopped_ = false;
  PickleTree tree_;
  std::vector<PickleId> stack_;
  std::vector<size_t> marks_;  // the stack's size at each
  std::unordered_map<uint32_t, PickleId> memo_;
};

void Machine::step() {
  opcode_at_ = at_;
  const char opcode = take(1)[0];
  switch (opcode) {
    case '\x80':  // PROTO
      if (const uint8_t version = number<uint8_t>(); version > 5) throw bad("is of protocol {}", version);
      return;
    case '\x95':  // FRAME
      take(8);
      return;
    case '.':  // STOP
      tree_.root = pop();
      stopped_ = true;
      return;
    case '0':  // POP
      if (stack_.size() == base() && !marks_.empty())
        marks_.pop_back();
      else
        pop();
      return;
    case '1':  // POP_MARK
      pop_to_mark();
      return;
    case '2':  // DUP
      return push(top());
    case '(':  // MARK
      if (marks_.size() == kMaxPickleValues) throw bad("has more marks than values");
      return marks_.push_back(stack_.size());
    case 'N':  // NONE
      return push(make({}));
    case '\x88':  // NEWTRUE
      return push_integer(Kind::boolean, 1);
    case '\x89':  // NEWFALSE
      return push_integer(Kind::boolean, 0);
    case 'J':  // BININT
      return push_integer(Kind::integer, number<int32_t>());
    case 'K':  // BININT1
      return push_integer(Kind::integer, number<uint8_t>());
    case 'M':  // BININT2
      return push_integer(Kind::integer, number<uint16_t>());
    case '\x8a':  // LONG1
      return long_integer(number<uint8_t>());
    case '\x8b':  // LONG4
      return long_integer(number<uint32_t>());
    case 'G': {  // BINFLOAT, big-endian
      uint64_t bits = 0;
      for (char c : take(8)) bits = bits << 8 | uint8_t(c);
      PickleValue v;
      v.kind = Kind::real;
      v.real = std::bit_cast<double>(bits);
      return push(make(std::move(v)));
    }
    case 'U':     // SHORT_BINSTRING: Python 2's str
    case '\x8c':  // SHORT_BINUNICODE
      return push_text(Kind::string, take(number<uint8_t>()));
    case 'T':  // BINSTRING
    case 'X':  // BINUNICODE
      return push_text(Kind::string, take(number<uint32_t>()));
    case '\x8d':  // BINUNICODE8
      return push_text(Kind::string, take(number<uint64_t>()));
    case 'C':  // SHORT_BINBYTES
      return push_text(Kind::bytes, take(number<uint8_t>()));
    case 'B':  // BINBYTES
      return push_text(Kind::bytes, take(number<uint32_t>()));
    case '\x8e':  // BINBYTES8
      return push_text(Kind::bytes, take(number<uint64_t>()));
    case ')':  // EMPTY_TUPLE
      return push_sequence(Kind::tuple, {});
    case '\x85':  // TUPLE1
      return push_tuple(1);
    case '\x86':  // TUPLE2
      return push_tuple(2);
    case '\x87':  // TUPLE3
      return push_tuple(3);
    case 't':  // TUPLE
      return push_sequence(Kind::tuple, pop_to_mark());
    case ']':  // EMPTY_LIST
      return push_sequence(Kind::list, {});
    case 'l':  // LIST
      return push_sequence(Kind::list, pop_to_mark());
    case 'a': {  // APPEND
      const PickleId item = pop();
      return append(top(), {&item, 1});
    }
    case 'e': {  // APPENDS
      const std::vector<PickleId> items = pop_to_mark();
      return append(top(), items);
    }
    case '}':  // EMPTY_DICT
      return push_sequence(Kind::dict, {});
    case 'd': {  // DICT
      std::vector<PickleId> items = pop_to_mark();
      if (items.size() % 2 != 0) throw bad("a dict has a key without its value");
      return push_sequence(Kind::dict, std::move(items));
    }
    case 's': {  // SETITEM
      const PickleId item = pop(), key = pop(), both[] = {key, item};
      return set_items(top(), both);
    }
    case 'u': {  // SETITEMS
      const std::vector<PickleId> items = pop_to_mark();
      return set_items(top(), items);
    }
    case 'c': {  // GLOBAL
      const std::string_view module = line();
      return push_global(module, line());
    }
    case '\x93': {  // STACK_GLOBAL
      const PickleId name = pop(), module = pop();
      if (value(name).kind != Kind::string || value(module).kind != Kind::string)
        throw bad("names a global by no text");
      return push_global(value(module).text, value(name).text);
    }
    case 'R':  // REDUCE
      return reduce();
    case '\x81':  // NEWOBJ
      return new_object();
    case 'b':  // BUILD
      return build();
    case 'Q':  // BINPERSID
      return persistent_id();
    case 'q':  // BINPUT
      return put(number<uint8_t>());
    case 'r':  // LONG_BINPUT
      return put(number<uint32_t>());
    case '\x94':  // MEMOIZE
      return put(uint32_t(memo_.size()));
    case 'h':  // BINGET
      return get(number<uint8_t>());
    case 'j':  // LONG_BINGET
      return get(number<uint32_t>());
    default:
      throw bad("has opcode {:#04x}, which torch.save() does not write: refused", uint8_t(opcode));
  }
}

}  // namespace

const PickleValue* PickleTree::find(const PickleValue& dict, std::string_view key) const {
  if (dict.kind != Kind::dict) return nullptr;
  for (size_t i = dict.items.size(); i >= 2; i -= 2)  // the last of a key is the one that a dict keeps
    if (const PickleValue& k = values[dict.items[i - 2]]; k.kind == Kind::string && k.text == key)
      return &values[dict.items[i - 1]];
  return nullptr;
}

PickleTree parse_pickle(std::string_view pickle, const std::string& where) { return Machine(pickle, where).run(); }

}  // namespace darkroom
