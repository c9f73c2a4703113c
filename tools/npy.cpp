// SPDX-License-Identifier: Apache-2.0
#include "npy.hpp"

#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "quoted.hpp"

namespace tool::npy {
namespace {

// What the header's dictionary says, and nothing that it must say twice.
struct header {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

// The header is a literal of Python's, as NumPy writes it:
//   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class header_reader {
 public:
  explicit header_reader(std::string_view text) : rest_(text) {}

  header read() {
    header h;
    expect('{');
    while (!accept('}')) {
      const std::string key = string("a key");
      expect(':');
      if (key == "descr")
        set(h.descr, key, descr());
      else if (key == "fortran_order")
        set(h.fortran_order, key, boolean());
      else if (key == "shape")
        set(h.shape, key, shape());
      else
        throw error("its header has the unknown key " + quoted(key));
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) fail("nothing more");
    return h;
  }

 private:
  template <class T>
  static void set(std::optional<T>& field, const std::string& key, T value) {
    if (field) throw error("its header has the key " + quoted(key) + " twice");
    field = std::move(value);
  }

  [[noreturn]] void fail(const std::string& wanted) const {
    throw error("its header is malformed: " + wanted + " should stand before " + quoted(rest_));
  }
  void skip_space() {
    const std::size_t start = rest_.find_first_not_of(" \t\n");
    rest_.remove_prefix(start == std::string_view::npos ? rest_.size() : start);
  }
  bool accept(std::string_view wanted) {
    skip_space();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(wanted.size());
    return true;
  }
  bool accept(char wanted) { return accept(std::string_view(&wanted, 1)); }
  void expect(char wanted) {
    if (!accept(wanted)) fail(quoted(std::string_view(&wanted, 1)));
  }

  std::string string(const char* what) {
    skip_space();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) fail(what);
    const std::size_t end = rest_.find(rest_[0], 1);
    if (end == std::string_view::npos) fail(what);
    std::string value(rest_.substr(1, end - 1));
    // NumPy writes none in what is read here.
    if (value.find('\\') != std::string::npos) fail(what);
    rest_.remove_prefix(end + 1);
    return value;
  }
  std::string descr() {
    skip_space();
    if (rest_.starts_with('['))
      throw error("it holds a structured type; f2, f4 and f8 can be read");
    return string("a type");
  }
  bool boolean() {
    if (accept("True")) return true;
    if (accept("False")) return false;
    fail("True or False");
  }
  std::int64_t extent() {
    skip_space();
    std::int64_t value = 0;
    const auto [end, status] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (status == std::errc::result_out_of_range)
      throw error("its shape does not fit into 64 bits");
    if (status != std::errc()) fail("an extent");
    if (value < 0) throw error("its shape has the negative extent " + std::to_string(value));
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    accept('L');  // Python 2
    return value;
  }
  std::vector<std::int64_t> shape() {
    constexpr std::size_t most = 64;  // NumPy's own limit
    std::vector<std::int64_t> extents;
    expect('(');
    while (!accept(')')) {
      if (extents.size() == most) throw error("it has more than 64 dimensions");
      extents.push_back(extent());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return extents;
  }

  std::string_view rest_;
};

type type_of(const std::string& descr) {
  const std::string_view kind =
      std::string_view(descr).substr(std::min<std::size_t>(1, descr.size()));
  const char order = descr.empty() ? ' ' : descr[0];
  if (kind == "f2" || kind == "f4" || kind == "f8") {
    if (order == '>')
      throw error("its numbers are big-endian ('" + descr +
                  "'); x.astype(x.dtype.newbyteorder("
                  "'<')) makes them little-endian");
    if (order == '<' || order == '|' || order == '=')
      return kind == "f2" ? type::f16 : kind == "f4" ? type::f32 : type::f64;
  }
  if (kind.starts_with('O')) throw error("it holds Python objects; f2, f4 and f8 can be read");
  throw error("its type " + quoted(descr) + " cannot be read; f2, f4 and f8 can");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string shown = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    shown += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return shown + (shape.size() == 1 ? ",)" : ")");
}

std::size_t little_endian(std::span<const std::byte> bytes) {
  std::size_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;)
    value = value << 8 | std::to_integer<std::size_t>(bytes[i]);
  return value;
}

}  // namespace

matrix parse(std::span<const std::byte> file) {
  constexpr std::string_view magic = "\x93NUMPY";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.empty()) throw error("it is empty");
  if (!text.starts_with(magic))
    throw error("it is no .npy file: it does not begin with \\x93NUMPY");
  if (file.size() < 8) throw error("it is truncated within its first 8 bytes");
  const int version = std::to_integer<int>(file[6]);
  if (version < 1 || version > 3)
    throw error("its format version is " + std::to_string(version) + "; 1 to 3 can be read");
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  const std::size_t begin = 8 + length_bytes;
  if (file.size() < begin) throw error("it is truncated before its header");
  const std::size_t length = little_endian(file.subspan(8, length_bytes));
  if (length > file.size() - begin)
    throw error("it is truncated: its header should have " + std::to_string(length) +
                " bytes, and " + std::to_string(file.size() - begin) + " are left");

  const header h = header_reader(text.substr(begin, length)).read();
  if (!h.descr || !h.fortran_order || !h.shape)
    throw error(std::string("its header lacks the key ") + (!h.descr           ? "'descr'"
                                                            : !h.fortran_order ? "'fortran_order'"
                                                                               : "'shape'"));
  const npy::type type = type_of(*h.descr);
  if (h.shape->size() != 2)
    throw error("its shape is " + shape_text(*h.shape) + "; a matrix has two dimensions");
  const std::int64_t rows = (*h.shape)[0];
  const std::int64_t cols = (*h.shape)[1];
  if (rows == 0 || cols == 0)
    throw error("its shape is " + shape_text(*h.shape) + ": it has no elements");

  const std::span<const std::byte> data = file.subspan(begin + length);
  // Compared by division: no product of a shape's extents need fit.
  const std::size_t held = data.size() / size_of(type);
  const auto wanted_rows = static_cast<std::size_t>(rows);
  const auto wanted_cols = static_cast<std::size_t>(cols);
  if (wanted_rows > held / wanted_cols)
    throw error("it is truncated: the shape " + shape_text(*h.shape) + " of " + name_of(type) +
                " needs more than the " + std::to_string(data.size()) + " bytes after its header");
  const std::size_t needed = wanted_rows * wanted_cols * size_of(type);
  if (data.size() != needed)
    throw error("it has " + std::to_string(data.size() - needed) + " bytes after its matrix");
  return {rows, cols, type, *h.fortran_order, data};
}

}  // namespace tool::npy
