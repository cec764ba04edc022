package generate

import (
	"strings"

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/event"
)

// AsyncAPI returns an AsyncAPI 3.0 document of the events that the functions of a system consume and emit: a channel
// for each type, and an operation for each function that emits or consumes it.
func AsyncAPI(product Product, system manifest.System) ([]byte, error) {
	channels, messages, schemas, operations := object{}, object{}, object{}, object{}
	types := system.Types()
	for _, info := range types.All() {
		id := channelID(info)
		channels[id] = object{
			"address": info.Name, "title": info.Name, "description": info.Doc,
			"messages": object{id: object{"$ref": "#/components/messages/" + id}},
		}
		schemas[id] = info.Schema
		messages[id] = message(info, id)
	}
	for _, d := range system.Sorted() {
		for _, name := range d.Emits {
			addOperation(operations, types, d.Name, "send", "says", name)
		}
		for _, name := range d.Consumes {
			addOperation(operations, types, d.Name, "receive", "hears", name)
		}
	}
	return encode(object{
		"asyncapi": "3.0.0",
		"info": product.info("The events that the functions of this system emit and consume: CloudEvents 1.0 in JSON, "+
			"through one broker. Each is delivered at least once.", "url", "https://spdx.org/licenses/"+product.License+".html"),
		"defaultContentType": "application/cloudevents+json",
		"channels":           channels,
		"operations":         operations,
		"components": object{
			"messages": messages, "schemas": schemas, "messageTraits": object{"cloudevent": envelope()},
		},
	})
}

func channelID(info *event.Info) string {
	return strings.NewReplacer(".", "_", "-", "_").Replace(info.Short)
}

// addOperation adds the operation of one function with one type; "*" is every type.
func addOperation(into object, types event.Catalogue, function, action, verb, name string) {
	if name == "*" {
		for _, info := range types.All() {
			addOperation(into, types, function, action, verb, info.Name)
		}
		return
	}
	info, known := types.Lookup(name)
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

func message(info *event.Info, id string) object {
	examples := []any{}
	for _, e := range info.Examples {
		examples = append(examples, object{"name": e.Name, "payload": e.Data})
	}
	return object{
		"name": info.Name, "title": info.Name, "summary": info.Doc, "contentType": event.ContentType,
		"tags":     []any{object{"name": string(info.Kind)}, object{"name": info.Function}},
		"traits":   []any{object{"$ref": "#/components/messageTraits/cloudevent"}},
		"payload":  object{"$ref": "#/components/schemas/" + id},
		"examples": examples,
	}
}

// envelope returns the schema of the attributes of a CloudEvent, as they are named in the HTTP binding.
func envelope() object {
	text := func(doc string) object { return object{"type": "string", "description": doc} }
	return object{"headers": object{
		"type":     "object",
		"required": []any{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-time"},
		"properties": object{
			"ce-specversion":   object{"type": "string", "const": "1.0"},
			"ce-id":            text("UUIDv7"),
			"ce-source":        text("/functions/<function>"),
			"ce-type":          text("the type of the event"),
			"ce-subject":       text("the id of the entity"),
			"ce-time":          object{"type": "string", "format": "date-time"},
			"ce-dataschema":    text("the address of the payload's schema"),
			"ce-partitionkey":  text("events of one key keep their order"),
			"ce-sequence":      text("the version of the entity"),
			"ce-correlationid": text("the story that the event belongs to"),
			"ce-causationid":   text("the event or request that caused it"),
			"ce-traceparent":   text("W3C Trace Context"),
			"ce-tracestate":    text("W3C Trace Context"),
		},
	}}
}
