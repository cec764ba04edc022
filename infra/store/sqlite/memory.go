package sqlite

import (
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// All connections of the process share one pool of page buffers, of the size that SQLite needs. Without it each page is
// allocated separately, in a size class of 8 KB, and returned to the kernel when the commit of another connection
// invalidates it. When the pool is full, SQLite replaces the least recently used page.
const (
	pageSize    = 4096
	pageBuffers = 2048 // about 9 MB
)

// pageHeader is the size of SQLite's header of each page.
var pageHeader int32

// tuneMemory must run before the first connection of the process is opened; later calls have no effect.
var tuneMemory = sync.OnceFunc(func() {
	tls := libc.NewTLS() // never closed: the process uses its memory until it ends
	if config(tls, lib.SQLITE_CONFIG_PCACHE_HDRSZ, uintptr(unsafe.Pointer(&pageHeader))) {
		size := pageSize + pageHeader
		if pages := allocate(libc.Xmalloc, tls, int(size)*pageBuffers); pages != 0 {
			config(tls, lib.SQLITE_CONFIG_PAGECACHE, pages, size, int32(pageBuffers))
		}
	}
	// The allocator returns the memory of a size class to the kernel when its last block is freed, which would be after
	// every read of a document. So one block of each size stays allocated.
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
