// Package timemachine runs past events again, with the functions of a product as they are now, in simulated time, and
// tells what differs.
//
//	rec, err := timemachine.Read(ctx, archive, timemachine.Selection{About: order}, sys)
//	report, err := timemachine.Run(ctx, sys, rec, timemachine.Options{})
//	// report.Same, report.Events, report.State
//
// A Recording is what the archive has of one entity, or of a span of time: all events of the correlations that it is
// a part of, and the facts of others, before and meanwhile, about the entities that these name. It can be written to a
// file and read again, as a batch of CloudEvents in JSON.
//
// A run begins with what came before: facts are delivered to those that consume them, marked as replayed, and
// documents are made from them where a Recipe of package rerun can. Then come the inputs, at the times at which they
// came: requests that recipes make again, and events as they were recorded where there is no recipe. Everything else
// follows from the code that runs. A function gets an event no earlier than the past one has reacted to it, and after
// what the past had emitted about the same entity before, so that the same code does the same in the same order.
// Services outside of the system answer as recorded where a recipe has doubles of them. Functions have their default
// settings, and those that Options has.
//
// The events of the run are compared with the recorded ones: by correlation, source, type, subject and data. Ids that
// were made in the run stand for those that were recorded at the same places. NotCompared lists what is left out. Notes
// tell what the run could not make again.
//
// A Recording may be used by several runs at once, and is not changed by them.
package timemachine
