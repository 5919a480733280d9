# The libraries that bench_kernels compares with. Each is optional; CMake says once which were found. Nothing else links them.
#   oneDNN    the onednn-devel wheel of a virtual environment (bench/peers/setup.sh), else Debian's libdnnl-dev
#   OpenBLAS, BLIS    Debian's libopenblas-dev, libblis-dev; loaded at run time, since both define the same names
set(DARKROOM_ONEDNN_PREFIX "" CACHE PATH "Virtual environment, or other prefix, that has oneDNN (include/, lib/)")
find_path(DARKROOM_ONEDNN_INCLUDE oneapi/dnnl/dnnl.hpp HINTS ${DARKROOM_ONEDNN_PREFIX}/include)
find_library(DARKROOM_ONEDNN_LIBRARY dnnl HINTS ${DARKROOM_ONEDNN_PREFIX}/lib)
find_library(DARKROOM_OPENBLAS_LIBRARY openblas)
find_library(DARKROOM_BLIS_LIBRARY blis)

add_library(darkroom_bench_libraries INTERFACE)
set(found)
if(DARKROOM_ONEDNN_INCLUDE AND DARKROOM_ONEDNN_LIBRARY)
  get_filename_component(onednn_folder ${DARKROOM_ONEDNN_LIBRARY} DIRECTORY)
  target_compile_definitions(darkroom_bench_libraries INTERFACE DARKROOM_ONEDNN)
  target_include_directories(darkroom_bench_libraries SYSTEM INTERFACE ${DARKROOM_ONEDNN_INCLUDE})
  # The wheel's library finds those beside it (TBB and others) by the program's path, as long as that is an RPATH.
  target_link_libraries(darkroom_bench_libraries INTERFACE ${DARKROOM_ONEDNN_LIBRARY} ${CMAKE_DL_LIBS})
  target_link_options(darkroom_bench_libraries INTERFACE -Wl,--disable-new-dtags -Wl,-rpath-link,${onednn_folder})
  list(APPEND found "oneDNN (${DARKROOM_ONEDNN_LIBRARY})")
endif()
foreach(name OPENBLAS BLIS)
  if(DARKROOM_${name}_LIBRARY)
    target_compile_definitions(darkroom_bench_libraries INTERFACE DARKROOM_${name}="${DARKROOM_${name}_LIBRARY}")
    target_link_libraries(darkroom_bench_libraries INTERFACE ${CMAKE_DL_LIBS})
    list(APPEND found ${name})
  endif()
endforeach()
list(JOIN found ", " found)
message(STATUS "bench_kernels compares with: ${found}")
