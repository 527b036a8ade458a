# Settings that every target of this project shares.

# nvcc hands it to a host compiler that may not be GCC.
if(HIP_ATTN_HAS_CUDA)
  include(CheckCompilerFlag)
  check_compiler_flag(CUDA -Xcompiler=-fno-gnu-unique HIP_ATTN_CUDA_HOST_HAS_NO_GNU_UNIQUE)
endif()

# Warnings, sanitizers and language level, for the library, tests and benchmarks alike.
function(hip_attn_configure_private target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  if(PROJECT_IS_TOP_LEVEL)
    target_compile_options(
      ${target}
      PRIVATE
        # Unknown pragmas are OpenMP's, where it is not wanted.
        $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-Wall;-Wextra;-Wshadow;-Wno-unknown-pragmas>
        # GCC 12 sees overlapping copies in every "literal" + std::string (its bug 105651).
        $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
        $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow>
    )
    if(NOT HIP_ATTN_CUDA_INSTANCES)
      # Without an element type of 16 bits nothing calls what launches kernels of attention.
      target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-diag-suppress=177>)
    endif()
  else()
    # The warnings that a parent project asks for, as errors perhaps, are about its own code.
    target_compile_options(${target} PRIVATE -w)
  endif()
  set_target_properties(
    ${target}
    PROPERTIES
      CXX_EXTENSIONS OFF
      COMPILE_WARNING_AS_ERROR ${HIP_ATTN_WERROR}
      # Tests have names of their own in unnamed namespaces.
      UNITY_BUILD OFF
  )
  # CMake before 3.26 knows no C++20 for nvcc, so the option above says it, and says it alone, also
  # where CMAKE_CXX_STANDARD_REQUIRED is set, which CUDA takes over from C++.
  set_property(TARGET ${target} PROPERTY CUDA_STANDARD)
  set_property(TARGET ${target} PROPERTY CUDA_STANDARD_REQUIRED OFF)
  set_property(TARGET ${target} PROPERTY CUDA_ARCHITECTURES ${HIP_ATTN_CUDA_PROPERTY})
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
  # Infinities and NaN have a meaning here (docs/guide/numerics.md), whatever the parent project's flags.
  target_compile_options(
    ${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-fno-fast-math>
  )
  # A parent project that says nothing of optimisation does not ask for none.
  if(NOT CMAKE_CXX_FLAGS MATCHES "-O")
    target_compile_options(${target} PRIVATE $<$<CONFIG:>:-O2>)
  endif()
  # A shared object with a unique symbol is never unloaded: not this library, and no plugin that
  # links the static one.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)
  if(HIP_ATTN_CUDA_HOST_HAS_NO_GNU_UNIQUE)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fno-gnu-unique>)
  endif()
  if(BUILD_SHARED_LIBS)
    target_compile_definitions(${target} PRIVATE HIP_ATTN_BUILDING)
  else()
    target_compile_definitions(${target} PUBLIC HIP_ATTN_STATIC)
  endif()
endfunction()
