package event

import ce "github.com/cloudevents/sdk-go/v2/event"

// Valid returns what is wrong with an event by the CloudEvents specification; nil when nothing is. Its answer is that of
// the SDK's Validate, which allocates much: events that are plainly right do not go through it.
func Valid(e ce.Event) error {
	if c, ok := e.Context.(*ce.EventContextV1); ok && len(e.FieldErrors) == 0 && plain(c) {
		return nil
	}
	return e.Validate()
}

// plain reports whether the attributes are right at first sight.
func plain(c *ce.EventContextV1) bool {
	filled := func(s string) bool { return s != "" && s[0] > ' ' }
	return filled(c.ID) && filled(c.Type) && (c.Source.Path != "" || c.Source.Host != "" || c.Source.Opaque != "") &&
		(c.Subject == nil || filled(*c.Subject)) && (c.DataSchema == nil || c.DataSchema.IsAbs()) &&
		(c.DataContentType == nil || *c.DataContentType == ce.ApplicationJSON)
}
