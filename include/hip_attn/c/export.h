/// HIP_ATTN_API marks the symbols that the compiled library exports; everything else is hidden. For
/// the preprocessor of any language.
#pragma once

#if defined(HIP_ATTN_STATIC)
#define HIP_ATTN_API
#elif defined(_WIN32) && defined(HIP_ATTN_BUILDING)
#define HIP_ATTN_API __declspec(dllexport)
#elif defined(_WIN32)
#define HIP_ATTN_API __declspec(dllimport)
#else
#define HIP_ATTN_API __attribute__((visibility("default")))
#endif
