package event

import ce "github.com/cloudevents/sdk-go/v2/event"

// Valid returns an error if the event is not valid by the CloudEvents specification. It agrees with the SDK's Validate,
// which allocates much and is called only for events that simple is false for.
func Valid(e ce.Event) error {
	if c, ok := e.Context.(*ce.EventContextV1); ok && len(e.FieldErrors) == 0 && simple(c) {
		return nil
	}
	return e.Validate()
}

// simple reports whether the attributes are valid by a few quick checks.
func simple(c *ce.EventContextV1) bool {
	filled := func(s string) bool { return s != "" && s[0] > ' ' }
	return filled(c.ID) && filled(c.Type) && (c.Source.Path != "" || c.Source.Host != "" || c.Source.Opaque != "") &&
		(c.Subject == nil || filled(*c.Subject)) && (c.DataSchema == nil || c.DataSchema.IsAbs()) &&
		(c.DataContentType == nil || *c.DataContentType == ce.ApplicationJSON)
}
