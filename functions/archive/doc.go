// Package archive stores every event of the system, in the order of arrival. History, the graph of causes and replays
// are read from it; it is also the dead-letter sink of every trigger.
//
// It consumes every event, the dead letters of every trigger, and archive.replay. It emits archive.replayed,
// archive.replay to itself for the next portion of a replay, and the replayed events, unchanged but for two extensions.
//
// It owns the log, one document for each event whose id is the event's position; the events that older versions have
// counted; the head, which every unit reads that appends and only a replay writes; and dead letters, one for each event
// and subscriber.
//
// Instances append to the log at the same time and write no common document; see log.go. A position begins with the
// time of arrival, and times never decrease from an event to one that was delivered after the first was acknowledged.
// So the order of each partition key is kept, and a range of time is a range of positions. An event that comes twice is
// dropped by the inbox. An event that is addressed to one function (extension ebbreplayto) is a repetition and is not
// stored again. Data that is not what its content type says is in data_base64, and is replayed byte by byte.
//
// A replay continues by a command of the archive to itself, so that each portion is one unit of work and a crash
// between two portions loses nothing. A portion that is handled again emits the same events with the same ids, which
// the consumer's inbox drops. A portion is limited in events and in bytes, and is halved when the store refuses it as
// too large. The replay ends when a portion has reached the end of the log. An event from before the replay that
// reaches the archive only after the replay's end is replayed when it arrives, as a part of the same replay. An event
// that does not conform to its schema is stored and not replayed, because no consumer accepts it. Portions and
// archive.replayed have different partition keys and so no order between them: a consumer that needs every event must
// count them.
package archive
