package generate

import (
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// AsyncAPI is an AsyncAPI 3.0 document of the events: a channel for each type, and an operation
// for each function that says or hears it.
func AsyncAPI(functions []*function.Function) ([]byte, error) {
	channels, messages, schemas, operations := object{}, object{}, object{}, object{}
	for _, info := range events.Catalogue() {
		id := channelID(info)
		channels[id] = object{
			"address": info.Name, "title": info.Name, "description": info.Doc,
			"messages": object{id: object{"$ref": "#/components/messages/" + id}},
		}
		schemas[id] = info.Schema
		messages[id] = message(info, id)
	}
	for _, f := range byName(functions) {
		m := f.Manifest()
		for _, name := range m.Says {
			operation(operations, m.Name, "send", "says", name)
		}
		for _, name := range m.Hears {
			operation(operations, m.Name, "receive", "hears", name)
		}
	}
	return encode(object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "Ebb", "version": Version,
			"description": "The events that the functions of this system say and hear: CloudEvents 1.0 in JSON, through one broker. Each is delivered at least once.",
			"license":     object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"defaultContentType": "application/cloudevents+json",
		"channels":           channels,
		"operations":         operations,
		"components":         object{"messages": messages, "schemas": schemas, "messageTraits": object{"cloudevent": envelope()}},
	})
}

func channelID(info *events.Info) string {
	return strings.NewReplacer(".", "_", "-", "_").Replace(strings.TrimPrefix(info.Name, "dev.ebb."))
}

// operation adds what one function does with one type; "*" is all of them.
func operation(into object, function, action, verb, name string) {
	if name == "*" {
		for _, info := range events.Catalogue() {
			operation(into, function, action, verb, info.Name)
		}
		return
	}
	info, known := events.Lookup(name)
	if !known {
		return
	}
	id := channelID(info)
	into[function+"_"+verb+"_"+id] = object{
		"action": action, "summary": function + " " + verb + " " + info.Name,
		"channel":  object{"$ref": "#/channels/" + id},
		"messages": []any{object{"$ref": "#/channels/" + id + "/messages/" + id}},
		"tags":     []any{object{"name": function}},
	}
}

func message(info *events.Info, id string) object {
	examples := []any{}
	for _, e := range info.Examples {
		examples = append(examples, object{"name": e.Name, "payload": e.Data})
	}
	return object{
		"name": info.Name, "title": info.Name, "summary": info.Doc, "contentType": events.ContentType,
		"tags":     []any{object{"name": string(info.Kind)}, object{"name": info.Capability}},
		"traits":   []any{object{"$ref": "#/components/messageTraits/cloudevent"}},
		"payload":  object{"$ref": "#/components/schemas/" + id},
		"examples": examples,
	}
}

// envelope is the CloudEvent around the data, as its attributes are named in the HTTP binding.
func envelope() object {
	text := func(doc string) object { return object{"type": "string", "description": doc} }
	return object{"headers": object{
		"type":     "object",
		"required": []any{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time"},
		"properties": object{
			"ce-specversion":   object{"type": "string", "const": "1.0"},
			"ce-id":            text("UUIDv7"),
			"ce-source":        text("/functions/<capability>"),
			"ce-type":          text("the type of the event"),
			"ce-subject":       text("the id of the entity"),
			"ce-time":          object{"type": "string", "format": "date-time"},
			"ce-dataschema":    text("the address of the payload's schema"),
			"ce-partitionkey":  text("events of one key keep their order"),
			"ce-sequence":      text("the version of the entity"),
			"ce-correlationid": text("the story that the event belongs to"),
			"ce-causationid":   text("the event or request that caused it"),
			"ce-traceparent":   text("W3C Trace Context"),
		},
	}}
}
