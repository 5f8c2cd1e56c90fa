// SPDX-License-Identifier: Apache-2.0
#pragma once

// The version of the headers, and the inline namespace that keeps two versions apart in one
// process.

#define SINGLEFLIGHT_VERSION_MAJOR 0
#define SINGLEFLIGHT_VERSION_MINOR 1
#define SINGLEFLIGHT_VERSION_PATCH 0
#define SINGLEFLIGHT_VERSION                                               \
  (SINGLEFLIGHT_VERSION_MAJOR * 10000 + SINGLEFLIGHT_VERSION_MINOR * 100 + \
   SINGLEFLIGHT_VERSION_PATCH)

/// Bumped whenever the layout or the meaning of a type in the headers changes.
#define SINGLEFLIGHT_BEGIN_NAMESPACE \
  namespace singleflight {           \
  inline namespace abi_1 {
#define SINGLEFLIGHT_END_NAMESPACE \
  }                                \
  }

// The code in impl/ that is not a template is part of the headers, or, if SINGLEFLIGHT_COMPILED is
// defined, of the compiled library that the program links (singleflight::compiled defines it, and
// src/ compiles it). The code is the same either way; a program of many files is built faster with
// the library. Process-wide variables are inline in both modes, so a program has one of each, in
// whichever mode its files were compiled.
//
// A definition in impl/ begins with SINGLEFLIGHT_BODY, after its attributes. So does the
// declaration of a virtual function: otherwise every header-only file would contain the class's
// virtual table.
// SINGLEFLIGHT_INLINE_BODY: one that becomes part of its callers where they can see it.
//
// The library and the program are built with the same sanitizers and the same settings of the
// standard library: both change the layout, or the meaning, of what they share.
#if defined(SINGLEFLIGHT_COMPILED)
#define SINGLEFLIGHT_BODY
#define SINGLEFLIGHT_INLINE_BODY
#else
#define SINGLEFLIGHT_BODY inline
#define SINGLEFLIGHT_INLINE_BODY SINGLEFLIGHT_INLINE
#endif

// Process-wide state carries default visibility, so that two shared objects share it even when they
// are built with -fvisibility=hidden.
#if defined(__GNUC__)
#define SINGLEFLIGHT_SHARED_STATE __attribute__((visibility("default")))
#define SINGLEFLIGHT_COLD __attribute__((noinline, cold))
#define SINGLEFLIGHT_NOINLINE __attribute__((noinline))
#define SINGLEFLIGHT_FLAT __attribute__((flatten))  // inlines everything that it calls
#define SINGLEFLIGHT_INLINE __attribute__((always_inline)) inline  // a call would be measurable
#else
#define SINGLEFLIGHT_SHARED_STATE
#define SINGLEFLIGHT_COLD
#define SINGLEFLIGHT_NOINLINE
#define SINGLEFLIGHT_FLAT
#define SINGLEFLIGHT_INLINE inline
#endif

#if defined(__SANITIZE_THREAD__)
#define SINGLEFLIGHT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SINGLEFLIGHT_TSAN 1
#endif
#endif
#ifndef SINGLEFLIGHT_TSAN
#define SINGLEFLIGHT_TSAN 0
#endif
