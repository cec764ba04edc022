package saga

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Expired returns the name of the step whose deadline passed so that the saga is being undone or was; "" if it was
// undone for another reason or not at all.
func (p Progress) Expired() string {
	i := slices.IndexFunc(p.Steps, func(s StepProgress) bool { return p.Reason == timedOut(s.Name) })
	if i < 0 {
		return ""
	}
	return p.Steps[i].Name
}

// Find returns the progress of every saga that a JSON document holds, at any depth, in the order of the members' names.
// It returns nil for text that is not JSON.
func Find(document []byte) []Progress {
	document = bytes.TrimSpace(document)
	if len(document) == 0 {
		return nil
	}
	var found []Progress
	switch document[0] {
	case '{':
		var members map[string]json.RawMessage
		if json.Unmarshal(document, &members) != nil {
			return nil
		}
		if p, ok := progressOf(document, members); ok {
			return []Progress{p}
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			found = append(found, Find(members[name])...)
		}
	case '[':
		var elements []json.RawMessage
		if json.Unmarshal(document, &elements) != nil {
			return nil
		}
		for _, e := range elements {
			found = append(found, Find(e)...)
		}
	}
	return found
}

// progressOf decodes an object that has the members of a Progress and known statuses; others are not ok.
func progressOf(object []byte, members map[string]json.RawMessage) (p Progress, ok bool) {
	if members["status"] == nil || members["steps"] == nil || json.Unmarshal(object, &p) != nil || len(p.Steps) == 0 {
		return p, false
	}
	statuses := []Status{Running, Undoing, Completed, Reversed}
	states := []State{ToDo, Doing, Done, Failed, Skipped, BeingUndone, Undone}
	ok = slices.Contains(statuses, p.Status)
	for _, s := range p.Steps {
		ok = ok && s.Name != "" && slices.Contains(states, s.State)
	}
	return p, ok
}
