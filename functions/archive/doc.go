// Package archive keeps every event there was, in the order in which it came. From that come history,
// the graph of what caused what, and replays; it is also where the dead letters of all triggers end.
//
// Hears everything, the dead letters of every trigger, and archive.replay. Says archive.replayed, and
// archive.replay to itself for the next portion of a replay; and it says past events again.
//
// Owns: events, one document each whose id is its position in hexadecimal (positions start at 1 and have no
// gaps); the head, which counts them; and dead letters, one for each event and subscriber.
//
// Events of one batch share a transaction, so the head is written once for all of them. An event that comes
// twice is dropped by the inbox. Times in questions to the archive are times of arrival, which
// never run backwards along the positions, so that a range of time is a range of positions. An event
// addressed to one function (extension ebbreplayto) is a repetition and is not kept again.
//
// A replay goes on by a command of the archive to itself, so that each portion is one unit of work and a stop
// between two loses nothing. A portion that is handled again says the same events with the same ids, which the
// reader's inbox drops. The replay ends when a portion has reached the end of the log. An event that was said before
// the replay was asked for and comes to the archive only after its end is said again when it comes, as part of the same
// replay, so that it is not missed either. What does not keep to its schema is kept and not replayed: nobody could take
// it. Portions and archive.replayed have different partition keys: a reader that must have seen everything counts.
package archive
