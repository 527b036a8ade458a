# Settings that every target of this project shares.

# Warnings, sanitizers and language level, for the library, tests and benchmarks alike.
function(hip_attn_configure_private target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_options(
    ${target}
    PRIVATE
      # Unknown pragmas are OpenMP's, where it is not wanted.
      $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-Wall;-Wextra;-Wshadow;-Wno-unknown-pragmas>
      # GCC 12 sees overlapping copies in every "literal" + std::string (its bug 105651).
      $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
      # 554: nvcc warns of a conversion to one's own type without looking at its requires-clause.
      $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-Xcompiler=-Wall,-Wextra,-Wshadow;-diag-suppress=554>
  )
  set_target_properties(
    ${target}
    PROPERTIES
      CXX_EXTENSIONS OFF
      COMPILE_WARNING_AS_ERROR ${HIP_ATTN_WERROR}
  )
  # CMake before 3.26 knows no C++20 for nvcc, so the option above says it, and says it alone.
  set_property(TARGET ${target} PROPERTY CUDA_STANDARD)
  if(HIP_ATTN_SANITIZE)
    set(flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${flags}>)
    target_compile_definitions(${target} PRIVATE _GLIBCXX_ASSERTIONS)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()

# Sources that see the library's private headers: its own, and tests of its parts.
function(hip_attn_include_private target)
  target_include_directories(
    ${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${HIP_ATTN_GENERATED_DIR}
  )
endfunction()

# Objects that end up in the library.
function(hip_attn_configure_target target)
  hip_attn_configure_private(${target})
  hip_attn_include_private(${target})
  set_target_properties(
    ${target}
    PROPERTIES
      POSITION_INDEPENDENT_CODE ON
      CXX_VISIBILITY_PRESET hidden
      CUDA_VISIBILITY_PRESET hidden
      VISIBILITY_INLINES_HIDDEN ON
  )
  if(BUILD_SHARED_LIBS)
    target_compile_definitions(${target} PRIVATE HIP_ATTN_BUILDING)
  else()
    target_compile_definitions(${target} PUBLIC HIP_ATTN_STATIC)
  endif()
endfunction()
