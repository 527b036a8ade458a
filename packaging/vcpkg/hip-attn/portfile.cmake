# packaging/assemble puts the archive beside this file.
vcpkg_extract_source_archive(
    SOURCE_PATH
    ARCHIVE "${CMAKE_CURRENT_LIST_DIR}/hip_attn-${VERSION}.tar.gz"
)

vcpkg_check_features(
    OUT_FEATURE_OPTIONS FEATURE_OPTIONS
    FEATURES
        cuda   HIP_ATTN_CUDA
        openmp HIP_ATTN_OPENMP
)

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        ${FEATURE_OPTIONS}
        -DHIP_ATTN_BUILD_TOOLS=OFF
        -DHIP_ATTN_BUILD_TESTS=OFF
        -DHIP_ATTN_BUILD_BENCHMARKS=OFF
        -DHIP_ATTN_WERROR=OFF
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME hip_attn CONFIG_PATH lib/cmake/hip_attn)
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(
    FILE_LIST "${SOURCE_PATH}/LICENSE" "${SOURCE_PATH}/include/hip_attn/c/dlpack.LICENSE"
)
