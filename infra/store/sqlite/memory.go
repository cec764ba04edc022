package sqlite

import (
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// All connections of the process share one pool of buffers for pages, of the size that SQLite needs. Without it each
// page is allocated by itself, in a class of 8 KB, and returned to the kernel when somebody else's commit makes it
// worthless. When the pool is used up, SQLite takes the place of the page that was used least lately.
const (
	pageSize    = 4096
	pageBuffers = 2048 // some 9 MB
)

// pageHeader is what SQLite keeps beside each page.
var pageHeader int32

// tuneMemory must run before the first connection is opened. When something else in the process was
// earlier, SQLite refuses and stays as it is.
var tuneMemory = sync.OnceFunc(func() {
	tls := libc.NewTLS() // never closed: what it allocates is used for as long as the process lives
	if config(tls, lib.SQLITE_CONFIG_PCACHE_HDRSZ, uintptr(unsafe.Pointer(&pageHeader))) {
		size := pageSize + pageHeader
		if pages := allocate(libc.Xmalloc, tls, int(size)*pageBuffers); pages != 0 {
			config(tls, lib.SQLITE_CONFIG_PAGECACHE, pages, size, int32(pageBuffers))
		}
	}
	// The allocator returns the memory of a size to the kernel whenever its last block is freed, which
	// would be after every read of a document. One block of each size stays.
	for size := 256; size <= 16<<10; size *= 2 {
		allocate(libc.Xmalloc, tls, size-16)
	}
})

func config(tls *libc.TLS, option int32, args ...any) bool {
	list := libc.NewVaList(args...)
	defer libc.Xfree(tls, list)
	return lib.Xsqlite3_config(tls, option, list) == lib.SQLITE_OK
}

// allocate calls malloc, whose parameter has another type on each platform.
func allocate[T ~uint32 | ~uint64](malloc func(*libc.TLS, T) uintptr, tls *libc.TLS, size int) uintptr {
	return malloc(tls, T(size))
}
