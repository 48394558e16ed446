/* haul/api.h — what a declaration needs to be visible outside the library. */
#pragma once

#if defined(__GNUC__)
#define HAUL_API __attribute__((visibility("default")))
#else
#define HAUL_API
#endif
