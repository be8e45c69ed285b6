/* hiredis, 0.14 and later, used as codec alone: redisFormatCommandArgv() and redisReader. */
#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>
#else
#include <hiredis.h>
#endif
