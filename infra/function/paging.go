package function

// Paging is what an operation that lists takes, unless it needs other bounds. Embed it in its input.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}
