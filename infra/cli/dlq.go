package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

type deadLetter struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	At       string          `json:"at"`
	Times    int             `json:"times"`
	Function string          `json:"function"`
	Code     string          `json:"code"`
	Reason   string          `json:"reason"`
	Event    json.RawMessage `json:"event"`
}

func dlq(ctx context.Context, t *tool, args []string) error {
	f := t.flags("dlq", "[list] | show ID | replay ID | drop ID")
	open := clientFlags(t, f)
	state := f.String("state", "waiting", "list those that are waiting, or replayed")
	asJSON := f.Bool("json", false, "as JSON, one dead letter per line")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	what, id, err := verb(rest, "list", "show", "replay", "drop")
	if err != nil {
		return err
	}
	c, err := open()
	if err != nil {
		return err
	}
	path := "/api/archive/dead-letters/" + url.PathEscape(id)
	switch what {
	case "show":
		return t.showOne(ctx, c, path)
	case "replay":
		if err := c.call(ctx, http.MethodPost, path+"/replay", nil, nil); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "It is on its way again. If it fails again it comes back here.")
		return nil
	case "drop":
		return c.call(ctx, http.MethodDelete, path, nil, nil)
	}
	return t.listDead(ctx, c, *state, *asJSON)
}

func (t *tool) listDead(ctx context.Context, c *client, state string, asJSON bool) error {
	none := true
	for cursor := ""; ; {
		q := url.Values{"state": {state}, "limit": {"200"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if err := c.call(ctx, http.MethodGet, "/api/archive/dead-letters?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Items {
			none = false
			if err := t.dead(raw, asJSON); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if none && !asJSON {
		fmt.Fprintln(t.out, "No dead letters.")
	}
	return nil
}

func (t *tool) dead(raw json.RawMessage, asJSON bool) error {
	if asJSON {
		fmt.Fprintln(t.out, string(raw))
		return nil
	}
	var d deadLetter
	var e envelope
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if err := json.Unmarshal(d.Event, &e); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s  %s  %s did not take %s about %s (%s %s)\n", d.ID, d.At, d.Function, short(e.Type), e.Subject, d.Code, d.Reason)
	return nil
}
