# What freestanding guests have in common: from the PVH entry to C++ at CPL 3, a serial port, other
# processors. freestanding_guest(NAME SOURCES...) makes NAME.elf of these and of the sources.
set(FREESTANDING_DIR ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(FREESTANDING_ROOT ${CMAKE_CURRENT_LIST_DIR}/../.. ABSOLUTE)
set(FREESTANDING_WARNINGS -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers)

# Whatever the build type: optimised, no floating point (its state is never set up), no red zone
# (the assembly pushes), nothing that needs a C library, nothing instrumented.
function(freestanding_guest name)
  set(common start.S traps.S memory_functions.cc memory_map.cc power.cc processors.cc ring0.cc
    serial.cc start_info.cc text.cc traps.cc)
  list(TRANSFORM common PREPEND ${FREESTANDING_DIR}/)
  add_executable(${name} ${common} ${ARGN})
  set_target_properties(${name} PROPERTIES SUFFIX .elf CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON
    POSITION_INDEPENDENT_CODE OFF INTERPROCEDURAL_OPTIMIZATION OFF UNITY_BUILD OFF
    LINK_DEPENDS ${FREESTANDING_DIR}/guest.lds)
  target_include_directories(${name} PRIVATE ${FREESTANDING_ROOT})
  target_compile_options(${name} PRIVATE -m64 -fno-pic -fno-pie -g
    $<$<COMPILE_LANGUAGE:CXX>:${FREESTANDING_WARNINGS} -O2 -ffreestanding -fno-exceptions -fno-rtti
      -fno-threadsafe-statics -fno-stack-protector -fno-asynchronous-unwind-tables
      -fno-sanitize=all -fcf-protection=none -mno-red-zone -mcmodel=small -U_FORTIFY_SOURCE
      # clang refuses libstdc++'s long double under -mgeneral-regs-only.
      $<IF:$<CXX_COMPILER_ID:Clang>,-mno-mmx;-mno-sse,-mgeneral-regs-only>>)
  target_link_options(${name} PRIVATE -static -no-pie -nostdlib -Wl,--build-id=none
    -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 -T ${FREESTANDING_DIR}/guest.lds)
endfunction()
