#pragma once
// Messages: C++ structs with a field list, encoded as protobuf (proto3) by protozero.
//
// A message declares its fields once:
//   struct Point {
//     uint64_t x = 0;
//     std::string name;
//     wire::Unknown unknown;
//     static void Fields(auto& self, auto& v) { v(1, self.x); v(2, self.name);
//     v.Rest(self.unknown); }
//   };
// Field types: bool, unsigned and signed integers, enums, std::string (bytes), messages,
// std::optional<message>, and std::vector of these (integers packed). Zero values are not written,
// and absent ones are read as zero: a default in the struct is only what its maker starts from.
// Fields this build does not know are kept in `unknown` and written back, so that an older process
// does not lose what a newer one stored. Never reuse a number. Signed integers are zigzag (sint64).
// Decode refuses (kCorrupt) truncated or mistyped input, and input whose elements would take more
// memory than DecodedBytesMax; it never throws. Source:
// https://protobuf.dev/programming-guides/encoding/. Thread rule: values.

#include <concepts>
#include <optional>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace perigee::wire {

struct Unknown {
  std::string bytes;  // whole fields, tags included, in arrival order
  bool operator==(const Unknown&) const = default;
};

// Memory that the elements of a decoded message may take, by the bytes they came in: an element
// that is empty on the wire is a whole struct here. Real messages stay below 20 (directory entries
// with short names); short ones may hold what they like.
inline constexpr uint64_t kDecodedGrowthMax = 32;
inline constexpr uint64_t kDecodedSlackBytes = 64 << 10;
inline constexpr uint64_t DecodedBytesMax(uint64_t encoded_bytes) {
  return kDecodedSlackBytes + kDecodedGrowthMax * encoded_bytes;
}

namespace internal {

template <class T>
concept Unsigned = std::unsigned_integral<T> && !std::same_as<T, bool>;
template <class T>
concept Signed = std::signed_integral<T>;
template <class T>
concept Scalar = std::integral<T> || std::is_enum_v<T>;
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <Scalar T>
uint64_t ToVarint(T v) {
  if constexpr (Signed<T>)
    return protozero::encode_zigzag64(v);
  else
    return static_cast<uint64_t>(v);
}
template <Scalar T>
T FromVarint(uint64_t v) {
  if constexpr (Signed<T>)
    return static_cast<T>(protozero::decode_zigzag64(v));
  else if constexpr (std::same_as<T, bool>)
    return v != 0;
  else
    return static_cast<T>(v);
}

class Writer {
 public:
  explicit Writer(std::string* out) : out_(out), pbf_(*out) {}
  template <class T>
  void operator()(uint32_t tag, const T& field) {
    if constexpr (Scalar<T>) {
      if (auto v = ToVarint(field)) pbf_.add_uint64(tag, v);
    } else if constexpr (std::same_as<T, std::string>) {
      if (!field.empty()) pbf_.add_bytes(tag, field);
    } else if constexpr (IsOptional<T>::value) {
      if (field) Sub(tag, *field);
    } else if constexpr (IsVector<T>::value) {
      using E = typename T::value_type;
      if constexpr (Scalar<E>) {
        if (field.empty()) return;
        protozero::packed_field_uint64 packed{pbf_, tag};
        for (auto e : field) packed.add_element(ToVarint(e));
      } else {
        for (const auto& e : field) {
          if constexpr (std::same_as<E, std::string>)
            pbf_.add_bytes(tag, e);
          else
            Sub(tag, e);
        }
      }
    } else {
      Sub(tag, field);
    }
  }
  void Rest(const Unknown& unknown) { out_->append(unknown.bytes); }

 private:
  template <class M>
  void Sub(uint32_t tag, const M& m) {
    std::string sub;
    Writer w(&sub);
    M::Fields(m, w);
    pbf_.add_message(tag, sub);
  }
  std::string* out_;
  protozero::pbf_writer pbf_;
};

struct TooManyElements : protozero::exception {
  const char* what() const noexcept override { return "too many elements for its size"; }
};

class Budget {
 public:
  explicit Budget(uint64_t bytes) : left_(bytes) {}
  void Charge(size_t bytes) {
    if (bytes > left_) throw TooManyElements{};
    left_ -= bytes;
  }

 private:
  uint64_t left_;
};

template <class M>
void ReadMessage(protozero::data_view data, M* m, Budget* budget, int depth);

// Offers the current field of `pbf` to each declared field until one takes it.
class Reader {
 public:
  Reader(protozero::pbf_reader* pbf, Budget* budget, int depth)
      : pbf_(pbf), budget_(budget), depth_(depth) {}
  bool taken() const { return taken_; }

  template <class T>
  void operator()(uint32_t tag, T& field) {
    if (taken_ || pbf_->tag() != tag) return;
    taken_ = true;
    if constexpr (Scalar<T>) {
      Expect(protozero::pbf_wire_type::varint);
      field = FromVarint<T>(pbf_->get_uint64());
    } else if constexpr (std::same_as<T, std::string>) {
      Expect(protozero::pbf_wire_type::length_delimited);
      field = pbf_->get_bytes();
    } else if constexpr (IsOptional<T>::value) {
      field.emplace();
      Sub(&*field);
    } else if constexpr (IsVector<T>::value) {
      using E = typename T::value_type;
      if constexpr (Scalar<E>) {
        Expect(protozero::pbf_wire_type::length_delimited);
        for (auto v : pbf_->get_packed_uint64()) {
          budget_->Charge(sizeof(E));
          field.push_back(FromVarint<E>(v));
        }
      } else if constexpr (std::same_as<E, std::string>) {
        Expect(protozero::pbf_wire_type::length_delimited);
        budget_->Charge(sizeof(E));
        field.push_back(pbf_->get_bytes());
      } else {
        budget_->Charge(sizeof(E));
        Sub(&field.emplace_back());
      }
    } else {
      Sub(&field);
    }
  }
  void Rest(Unknown&) {}

 private:
  void Expect(protozero::pbf_wire_type type) {
    if (pbf_->wire_type() != type) throw protozero::unknown_pbf_wire_type_exception{};
  }
  template <class M>
  void Sub(M* m) {
    Expect(protozero::pbf_wire_type::length_delimited);
    ReadMessage(pbf_->get_view(), m, budget_, depth_ + 1);
  }
  protozero::pbf_reader* pbf_;
  Budget* budget_;
  int depth_;
  bool taken_ = false;
};

class RestWriter {
 public:
  explicit RestWriter(std::string_view field) : field_(field) {}
  template <class T>
  void operator()(uint32_t, T&) {}
  void Rest(Unknown& unknown) { unknown.bytes.append(field_); }

 private:
  std::string_view field_;
};

// Proto3: a field that is absent is zero, whatever the struct's own default is.
class Zero {
 public:
  template <class T>
  void operator()(uint32_t, T& field) {
    if constexpr (Scalar<T>) field = T{};
  }
  void Rest(Unknown&) {}
};

inline constexpr int kDepthMax = 16;

template <class M>
void ReadMessage(protozero::data_view data, M* m, Budget* budget, int depth) {
  if (depth > kDepthMax) throw protozero::invalid_length_exception{};
  Zero zero;
  M::Fields(*m, zero);
  protozero::pbf_reader pbf{data};
  while (true) {
    const char* begin = data.data() + (data.size() - pbf.length());
    if (!pbf.next()) break;
    Reader reader(&pbf, budget, depth);
    M::Fields(*m, reader);
    if (reader.taken()) continue;
    pbf.skip();
    const char* end = data.data() + (data.size() - pbf.length());
    RestWriter rest(std::string_view(begin, static_cast<size_t>(end - begin)));
    M::Fields(*m, rest);
  }
}

}  // namespace internal

template <class M>
std::string Encode(const M& m) {
  std::string out;
  internal::Writer w(&out);
  M::Fields(m, w);
  return out;
}

template <class M>
Result<M> Decode(std::string_view data) {
  M m;
  try {
    internal::Budget budget(DecodedBytesMax(data.size()));
    internal::ReadMessage(protozero::data_view{data.data(), data.size()}, &m, &budget, 0);
  } catch (const protozero::exception& e) {
    return Status(Code::kCorrupt, std::string("malformed message: ") + e.what());
  }
  return m;
}

}  // namespace perigee::wire
