package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (a *app) sendCommand() *cobra.Command {
	var n connection
	var o output
	var data, subject string
	var list bool
	c := &cobra.Command{
		Use:   "send TYPE",
		Short: "Publish an event in a running system",
		Long: `Publish an event in a running system. The archive checks its data by the schema of its type and
publishes it.

Every function that consumes the type receives it, with the archive as its source.`,
		Example: a.example(`
$ send users.changed --subject USER --data @changed.json
$ send users.deleted --subject USER --data '{"user_id":"0192…"}'
$ send --list                             the types`),
		ValidArgsFunction: n.completeTypes,
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) != 1 && !list {
			return usageErrorf("%s wants one event type", c.Name())
		}
		return nil
	}
	f := c.Flags()
	n.defineAddress(a, f)
	o.define(a, f)
	completeFormats(c)
	f.StringVar(&data, "data", "", "the data of the event: `JSON`, @FILE, or - for standard input")
	f.StringVar(&subject, "subject", "", "the entity that the event is about")
	f.BoolVar(&list, "list", false, "list the types without sending an event")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := n.open()
		if err != nil {
			return err
		}
		if list {
			return a.listTypes(c.Context(), client, &o)
		}
		if data == "" {
			return usageErrorf("send needs --data")
		}
		raw, err := a.payload(data)
		if err != nil {
			return err
		}
		return a.send(c.Context(), client, &o, args[0], subject, raw)
	}
	return c
}

// send publishes one event and shows its id.
func (a *app) send(ctx context.Context, c *client, o *output, eventType, subject string, data json.RawMessage) error {
	name, err := c.typeName(ctx, eventType)
	if err != nil {
		return err
	}
	event := map[string]any{"type": name, "data": data}
	if subject != "" {
		event["subject"] = subject
	}
	var sent json.RawMessage
	if err := c.call(ctx, http.MethodPost, "/api/archive/events", event, &sent); err != nil {
		return err
	}
	if o.structured() {
		return o.one(sent)
	}
	var e envelope
	if err := json.Unmarshal(sent, &e); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "sent %s\n", oneLine(e.ID))
	return nil
}

func (a *app) listTypes(ctx context.Context, c *client, o *output) error {
	all, err := c.eventTypes(ctx)
	if err != nil {
		return err
	}
	t := a.table("TYPE", "NAME")
	for _, name := range all {
		if o.structured() {
			if err := o.item(name); err != nil {
				return err
			}
			continue
		}
		t.row(shortType(name), name)
	}
	if !o.structured() {
		t.flush()
	}
	return nil
}
