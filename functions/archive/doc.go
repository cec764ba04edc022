// Package archive stores every event of the system, in the order of arrival. History, the graph of causes and replays
// are read from it; it is also the dead-letter sink of every trigger.
//
// It consumes every event, the dead letters of every trigger, and archive.replay. It emits archive.replayed,
// archive.replay to itself for the next portion of a replay, and the replayed events, unchanged but for two extensions.
//
// It owns events, one document each whose id is the event's position in hexadecimal (positions start at 1 and have no
// gaps); the head, which holds the last position; and dead letters, one for each event and subscriber.
//
// The events of one batch share a transaction, so the head is written once for all of them. An event that comes twice
// is dropped by the inbox. The times in queries are times of arrival. They never decrease with the position, so a range
// of time is a range of positions. An event that is addressed to one function (extension ebbreplayto) is a repetition
// and is not stored again.
//
// A replay continues by a command of the archive to itself, so that each portion is one unit of work and a crash
// between two portions loses nothing. A portion that is handled again emits the same events with the same ids, which
// the consumer's inbox drops. The replay ends when a portion has reached the end of the log. An event from before the
// replay that reaches the archive only after the replay's end is replayed when it arrives, as a part of the same
// replay. An event that does not conform to its schema is stored and not replayed, because no consumer accepts it.
// Portions and archive.replayed have different partition keys and so no order between them: a consumer that needs every
// event must count them.
package archive
