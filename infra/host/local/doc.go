// Package local runs a whole system in one process: every function, an embedded broker
// and embedded stores, in one directory.
//
// It treats functions as a platform does that scales to zero. A function is started by the
// first request or event that comes for it, and dropped with all it held in memory when it
// has been idle for a while; requests that arrive while it stops wait, and start it anew. What
// breaks on such a platform breaks here first.
//
// What survives: an acknowledged request, and every event of it, survives the process
// being killed and the power going, as the SQLite store and the NATS broker promise.
package local
