// Package local runs a whole system in one process: every function, an embedded broker and embedded stores, with their
// data in one directory.
//
// It runs functions as a platform does that scales to zero. A function is started by its first request or event, and
// stopped when it has been idle for a while, so that it loses everything in memory; requests that arrive while it stops
// wait and then start it again. So code that would fail on such a platform fails here first.
//
// Durability: an acknowledged request and all its events survive a kill of the process and a power failure, as the
// SQLite store and the NATS broker document.
package local
