// SPDX-License-Identifier: Apache-2.0
#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <new>

#include "lab/log/byte_source.hpp"

namespace singleflight::lab {

namespace {

constexpr std::string_view gzip_magic("\x1f\x8b", 2);
constexpr std::string_view zstd_magic("\x28\xb5\x2f\xfd", 4);
constexpr std::string_view xz_magic("\xfd\x37\x7a\x58\x5a\x00", 6);
constexpr std::string_view bzip2_magic("BZh", 3);

// A frame of zstd without data, as pzstd writes it before each of its others.
bool is_skippable_frame(std::string_view in) {
  return in.size() >= 4 && (in[0] & '\xf0') == '\x50' && in.substr(1, 3) == "\x2a\x4d\x18";
}

class gzip_decoder : public decoder {
 public:
  gzip_decoder() {
    constexpr int gzip_only = 16;
    if (inflateInit2(&stream_, MAX_WBITS + gzip_only) != Z_OK) throw std::bad_alloc();
  }
  gzip_decoder(const gzip_decoder&) = delete;
  gzip_decoder& operator=(const gzip_decoder&) = delete;
  ~gzip_decoder() override { inflateEnd(&stream_); }

  state run(std::string_view& in, char* out, std::size_t capacity, std::size_t& made) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(capacity);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    in.remove_prefix(in.size() - stream_.avail_in);
    made = capacity - stream_.avail_out;
    if (code == Z_STREAM_END) return state::end;
    return code == Z_OK || code == Z_BUF_ERROR ? state::more : state::damaged;
  }
  void restart() override { inflateReset(&stream_); }
  const char* name() const override { return "gzip"; }
  bool begins(std::string_view in) const override { return in.front() == gzip_magic.front(); }

 private:
  z_stream stream_{};
};

class zstd_decoder : public decoder {
 public:
  zstd_decoder() : stream_(ZSTD_createDStream()) {
    if (!stream_) throw std::bad_alloc();
    // As `zstd --long=31` writes.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, 31);
  }

  state run(std::string_view& in, char* out, std::size_t capacity, std::size_t& made) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out, capacity, 0};
    const auto left = ZSTD_decompressStream(stream_.get(), &to, &from);
    in.remove_prefix(from.pos);
    made = to.pos;
    if (ZSTD_isError(left) != 0) return state::damaged;
    return left == 0 ? state::end : state::more;
  }
  void restart() override { ZSTD_DCtx_reset(stream_.get(), ZSTD_reset_session_only); }
  const char* name() const override { return "zstd"; }
  bool begins(std::string_view) const override { return true; }

 private:
  struct closer {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<ZSTD_DStream, closer> stream_;
};

class xz_decoder : public decoder {
 public:
  xz_decoder() { xz_decoder::restart(); }
  xz_decoder(const xz_decoder&) = delete;
  xz_decoder& operator=(const xz_decoder&) = delete;
  ~xz_decoder() override { lzma_end(&stream_); }

  state run(std::string_view& in, char* out, std::size_t capacity, std::size_t& made) override {
    stream_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out);
    stream_.avail_out = capacity;
    const auto code = lzma_code(&stream_, LZMA_RUN);
    in.remove_prefix(in.size() - stream_.avail_in);
    made = capacity - stream_.avail_out;
    if (code == LZMA_STREAM_END) return state::end;
    return code == LZMA_OK || code == LZMA_BUF_ERROR ? state::more : state::damaged;
  }
  void restart() override {
    constexpr std::uint64_t most_memory = 1ULL << 30U;
    if (lzma_stream_decoder(&stream_, most_memory, 0) != LZMA_OK) throw std::bad_alloc();
  }
  const char* name() const override { return "xz"; }
  bool begins(std::string_view in) const override { return in.front() == xz_magic.front(); }
  bool skips(char c) const override { return c == '\0'; }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
};

class bzip2_decoder : public decoder {
 public:
  bzip2_decoder() { bzip2_decoder::begin(); }
  bzip2_decoder(const bzip2_decoder&) = delete;
  bzip2_decoder& operator=(const bzip2_decoder&) = delete;
  ~bzip2_decoder() override { BZ2_bzDecompressEnd(&stream_); }

  state run(std::string_view& in, char* out, std::size_t capacity, std::size_t& made) override {
    stream_.next_in = const_cast<char*>(in.data());
    stream_.avail_in = static_cast<unsigned>(in.size());
    stream_.next_out = out;
    stream_.avail_out = static_cast<unsigned>(capacity);
    const int code = BZ2_bzDecompress(&stream_);
    in.remove_prefix(in.size() - stream_.avail_in);
    made = capacity - stream_.avail_out;
    if (code == BZ_STREAM_END) return state::end;
    return code == BZ_OK ? state::more : state::damaged;
  }
  void restart() override {
    BZ2_bzDecompressEnd(&stream_);
    begin();
  }
  const char* name() const override { return "bzip2"; }
  bool begins(std::string_view in) const override { return in.front() == bzip2_magic.front(); }

 private:
  void begin() {
    stream_ = {};
    if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) throw std::bad_alloc();
  }
  bz_stream stream_{};
};

}  // namespace

std::unique_ptr<decoder> decoder_for(std::string_view beginning) {
  if (beginning.starts_with(gzip_magic)) return std::make_unique<gzip_decoder>();
  if (beginning.starts_with(zstd_magic) || is_skippable_frame(beginning))
    return std::make_unique<zstd_decoder>();
  if (beginning.starts_with(xz_magic)) return std::make_unique<xz_decoder>();
  // A text may begin with BZh: the number of the block size and the mark of a block follow it.
  if (beginning.starts_with(bzip2_magic) && beginning.substr(4, 6) == "\x31\x41\x59\x26\x53\x59") {
    return std::make_unique<bzip2_decoder>();
  }
  return nullptr;
}

}  // namespace singleflight::lab
