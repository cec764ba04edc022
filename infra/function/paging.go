package function

// Paging is the input of an operation that lists: embed it. Page is its output.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before."`
}
